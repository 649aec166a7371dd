"""Averages of the weights (EMA): updated during training, or computed afterwards from snapshots."""
