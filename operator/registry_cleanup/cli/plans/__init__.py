"""Plans and reports as a person asks for them: of which policy, what they say, and what differs."""
