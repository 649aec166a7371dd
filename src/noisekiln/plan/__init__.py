"""Plan of a run: settings, defaults, the model, its batches and its trainer."""
