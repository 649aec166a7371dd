"""Evaluation: how good a model is, how varied its images are, and whether it copies what it was trained on."""
