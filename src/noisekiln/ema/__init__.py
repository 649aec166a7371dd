"""Averages of the weights: kept during training, and made afterwards from snapshots."""
