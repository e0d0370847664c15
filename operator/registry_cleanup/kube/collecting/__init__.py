"""Garbage collection in the cluster: the registry's workload, its mark, and the Job. JSON in, values out."""
