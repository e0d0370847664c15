"""Pure decisions: what may go, and why. No clock, no I/O, no framework is ever imported below here."""
