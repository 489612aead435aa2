"""Distributions to begin with: each folder is a kind, ``common`` is what all kinds have."""
