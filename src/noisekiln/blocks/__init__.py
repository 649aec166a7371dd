"""Blocks that backbones are built from."""
