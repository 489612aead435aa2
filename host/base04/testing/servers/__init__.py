"""Real servers that tests start for themselves, on free ports, and kill, pause and restart."""
