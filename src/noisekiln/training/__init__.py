"""Training: the loop, its recovery from failures, its checkpoints. It knows nothing of diffusion."""
