"""Inverse methods: a model of images made into a model of images that agree with an observation, one per file."""
