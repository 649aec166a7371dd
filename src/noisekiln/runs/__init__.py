"""Runs: training in a folder, which resumes and is a model at any time."""
