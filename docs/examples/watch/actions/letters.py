"""Handlers that trace a part of what they do."""

from __future__ import annotations

from opentelemetry import trace

tracer = trace.get_tracer("acme-letters")


async def post(address: str, pages: int = 1) -> float:
    """Price a letter and post it."""
    with tracer.start_as_current_span("weigh", attributes={"letters.pages": pages}):
        grams = 5.0 * pages
    trace.get_current_span().set_attribute("letters.grams", grams)
    return 0.1 * grams
