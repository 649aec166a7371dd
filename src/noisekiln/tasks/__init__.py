"""Tasks: generation from an image (a small, grey or masked one), for models trained for it."""
