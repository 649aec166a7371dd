"""Files: atomic replacement, folders of saved models, pictures."""
