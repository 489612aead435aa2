"""From one generation to the next while the host runs."""
