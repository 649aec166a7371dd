"""Operators: degradations of an image, for restoration."""
