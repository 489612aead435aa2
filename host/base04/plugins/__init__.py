"""What plugins bring to the host, and what becomes of those that fail, wait or are slow."""
