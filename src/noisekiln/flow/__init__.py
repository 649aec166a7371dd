"""The probability-flow ODE as a map from images to noise."""
