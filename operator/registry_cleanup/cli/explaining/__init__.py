"""What `explain` does: what is read, and how it is told."""
