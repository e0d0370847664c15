"""The image: built by buildah as the Dockerfile says, looked into, and run (`make image-check`)."""
