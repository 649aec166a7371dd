"""Uses: what one does with a trained model and a picture, one a file; all of it without training."""
