"""What `run` does: its course, what holds a plan back, and what outlives it."""
