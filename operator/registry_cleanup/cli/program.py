"""What the program is called, and by which variable shells ask it to complete."""

PROGRAM = "registry-cleanup"
COMPLETE_VARIABLE = "_REGISTRY_CLEANUP_COMPLETE"
