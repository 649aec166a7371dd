"""Tasks: what a model is given to start from, other than noise, one kind a file."""
