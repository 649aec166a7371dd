"""The probability-flow ODE as a map: from an image to its noise."""
