"""What the cluster uses: every kind of object that names images, read whole or not at all, and pods watched since."""
