"""Plans: what is chosen for a run: settings, defaults, the model, its batches and its trainer."""
