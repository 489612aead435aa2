"""The Starlette application: one module for each group of routes."""
