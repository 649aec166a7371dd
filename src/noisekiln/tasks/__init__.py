"""Tasks: what a model starts from besides noise (a small, grey or masked image), one per file."""
