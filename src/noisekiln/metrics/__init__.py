"""Metrics: numbers about sets of images, from features that somebody else computed."""
