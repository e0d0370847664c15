"""OpenShift: repositories are image streams, read and changed through `image.openshift.io` with the policy's token."""
