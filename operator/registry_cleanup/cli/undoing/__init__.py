"""What `undo` does: its course."""
