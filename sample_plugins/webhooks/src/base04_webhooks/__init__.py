"""Webhooks for Base04. What others need of it is its contract, and receivers the check of a signature."""

from base04_webhooks.contract import WebhooksManager
from base04_webhooks.signature import InvalidSignature, verify

__all__ = ["InvalidSignature", "WebhooksManager", "verify"]
