"""Logs: backends for the curves of a run, one a file."""
