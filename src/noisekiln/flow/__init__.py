"""Inversion of the probability-flow ODE, from images to noise."""
