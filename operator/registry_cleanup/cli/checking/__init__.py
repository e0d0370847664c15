"""What `validate` and `test` do: policies without a cluster, names without a registry."""
