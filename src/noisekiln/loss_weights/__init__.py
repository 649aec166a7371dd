"""Loss weights: how much each noise level counts in the loss, one rule per file."""
