"""Conditioners: from what a person asks for (a class, a prompt) to the slots that a backbone reads, one kind a file."""
