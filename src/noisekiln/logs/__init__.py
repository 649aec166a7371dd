"""Logs: backends for the curves of a run."""
