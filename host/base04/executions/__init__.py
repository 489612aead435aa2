"""Runs of actions as they are kept: those of requests, as a history, and those in the background, to their end."""
