"""The HTTP server, its signals and its event loop."""
