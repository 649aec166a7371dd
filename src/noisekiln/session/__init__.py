"""Sessions: a model opened for use, for the command line and Python."""
