"""The commands for people, each in a module of its own that is imported only when it is called."""
