"""The host as an ASGI application, for a server of your choice."""

from base04 import create_app

app = create_app("base04.yaml")
