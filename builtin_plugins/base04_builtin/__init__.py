"""The providers that come with Base04: a folder for each role, whose plugin imports no implementation."""
