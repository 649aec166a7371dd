"""One format per file: each has HOLDS (in words), recognises(path) -> 0, 1 or 2, and read(path) -> Source."""
