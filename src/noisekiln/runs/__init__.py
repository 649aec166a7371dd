"""Runs: training in a folder, which can be resumed and loaded as a model at any time."""
