"""The Kubernetes side: resources to policies, runs to status, credentials. `kubernetes` is imported here only."""
