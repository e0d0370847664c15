"""Policies in files: read as kubectl reads them, with the lines that their fields stand on."""
