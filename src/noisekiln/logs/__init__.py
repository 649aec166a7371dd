"""Logs: backends for the curves of a run, one per file."""
