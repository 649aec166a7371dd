"""Guidance: to want something more, by comparing two estimates, one method a file."""
