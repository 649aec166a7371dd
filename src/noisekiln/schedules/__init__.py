"""Schedules: curves of noise levels over time. Time 0 is clean, time 1 is noise."""
