"""Networks that only an import makes: no choices of training, and built from the settings that came with their weights."""
