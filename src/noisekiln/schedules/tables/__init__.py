"""What schedules of discrete steps have in common."""
