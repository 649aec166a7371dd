"""Training: the loop, recovery from failures, checkpoints; independent of diffusion."""
