"""Loss weights: the weight of each noise level in the loss."""
