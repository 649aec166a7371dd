"""Inverse methods: inpainting, deblurring and super-resolution with an unconditional model."""
