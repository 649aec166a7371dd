"""Operators: what happened to an image before it was seen, one a file."""
