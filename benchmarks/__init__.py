"""Measurements of the parts that have to be fast and small; run by hand, never by the tests."""
