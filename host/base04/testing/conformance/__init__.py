"""Conformance suites: what every provider of a role does, whoever wrote it."""
