"""Pipelines of diffusers, whose weights others have trained, as models of noisekiln."""
