"""Codecs: the door between images and the unit-variance tensors that diffusion works on, one kind a file."""
