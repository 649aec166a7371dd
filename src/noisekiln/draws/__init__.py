"""Draws: which noise levels a network is trained on, one distribution a file."""
