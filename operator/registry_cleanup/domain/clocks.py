"""How far two clocks may be apart before one of them counts as wrong."""

from datetime import timedelta

# Clocks differ by so much without anything being wrong (design, 4).
CLOCK_TOLERANCE = timedelta(minutes=5)
