"""Codecs: between images and the unit-variance tensors that diffusion works on, one per file."""
