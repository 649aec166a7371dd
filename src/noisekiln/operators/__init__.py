"""Operators: degradations that an observed image has gone through, one per file."""
