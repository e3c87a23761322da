"""Training: one loop, and the tasks that it runs."""
