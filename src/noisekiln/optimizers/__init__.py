"""Optimizers: how gradients become steps of the weights, one a file."""
