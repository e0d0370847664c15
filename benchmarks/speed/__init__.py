"""How fast the operator reads and prunes a registry, beside the same requests from a bare client, and beside peers."""
