"""Files: written whole or not at all, saved models, pictures, folders of samples."""
