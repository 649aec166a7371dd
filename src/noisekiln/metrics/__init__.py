"""Metrics: numbers that compare images, or sets of features."""
