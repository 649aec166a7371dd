"""Objectives: losses that training minimises, one a file."""
