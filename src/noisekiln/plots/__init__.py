"""Plots: the curves of schedules and runs, contact sheets, and how images become noise and form again."""
