"""A plugin that says hello."""
