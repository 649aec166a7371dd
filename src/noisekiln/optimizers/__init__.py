"""Optimizers: how gradients become steps of the weights, one per file."""
