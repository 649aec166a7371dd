"""The model as a whole: sampling, saving, cascades, tiles, adapters."""
