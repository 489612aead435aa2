"""What the host writes down of what was done, and by whom."""
