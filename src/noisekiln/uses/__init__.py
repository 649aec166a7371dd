"""Uses of a trained model on an image: functions that check their arguments and return an iterator of Progress."""
