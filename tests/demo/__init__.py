"""`make demo`: what happens once is in `stage`, where it happens in a module for each kind of registry."""
