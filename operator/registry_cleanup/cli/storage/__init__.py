"""`storage`: commands for the files of a registry's storage, one module each."""
