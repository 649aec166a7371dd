"""Architectures of the networks that features come from."""
