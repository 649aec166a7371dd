"""Networks that only an import makes, with the settings that came with their weights: no choices of training."""
