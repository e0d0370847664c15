"""A registry's storage as files: for Jobs that have its volume. No network, no cluster."""
