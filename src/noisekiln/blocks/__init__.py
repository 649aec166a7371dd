"""Blocks that backbones are built of."""
