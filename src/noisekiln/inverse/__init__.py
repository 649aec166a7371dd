"""Inverse methods: a model of images made into a model of the images that explain an observation, one a file."""
