"""Logs: where curves go, one backend a file."""
