"""Registry Cleanup Operator: prunes the tags that a RegistryCleanupPolicy no longer needs."""
