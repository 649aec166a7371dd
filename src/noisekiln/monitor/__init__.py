"""Monitoring: held-out loss, previews, reports, measurements of a run."""
