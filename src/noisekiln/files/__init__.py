"""Files: atomic writing, folders of saved models and samples, pictures."""
