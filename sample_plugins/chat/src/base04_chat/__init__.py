"""A chat: rooms, presence and recovery, in a browser page."""
