"""Conditioners: from a class, a prompt or numbers to the conditions that a network reads."""
