"""The provider ``mongodb`` of the role ``database``: MongoDB, and what speaks its protocol."""

from __future__ import annotations

from base04_builtin.database.mongodb.manager import MongoDatabaseManager

__all__ = ["MongoDatabaseManager"]
