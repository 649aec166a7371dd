"""Readers of data formats: each has FORMATS (in words), recognises(path) -> 0, 1 or 2, and read(path) -> Source."""
