"""Logging in to registries as people do: options, Docker's and Podman's files, credential helpers, a kubeconfig."""
