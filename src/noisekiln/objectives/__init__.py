"""Objectives: losses that training minimises, one per file."""
