"""What a run's folder holds, and who is at work in it."""
