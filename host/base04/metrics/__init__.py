"""What the host counts, and how it is read."""
