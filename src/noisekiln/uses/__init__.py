"""Uses of a trained model on an image, one per file: each checks its arguments and returns an iterator of Progress."""
