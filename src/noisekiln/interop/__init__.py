"""Models from elsewhere, in the conventions of noisekiln."""
