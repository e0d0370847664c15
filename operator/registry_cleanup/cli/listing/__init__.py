"""The parts of `list`: what is meant, how it is read, and how it is shown."""
