"""Objectives: losses that training minimises."""
