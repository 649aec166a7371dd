"""Codecs: encoders from images to the unit-variance tensors that diffusion works on, and back."""
