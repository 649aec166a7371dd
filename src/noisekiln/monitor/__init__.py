"""Monitoring of a run: held-out losses, previews, reports, measurement."""
