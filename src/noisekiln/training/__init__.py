"""Training, which knows nothing of diffusion: steps, averages, checkpoints, reports."""
