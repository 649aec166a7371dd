"""Schedules: curves of noise levels over time, one per file. Time 0 is clean, time 1 is noise."""
