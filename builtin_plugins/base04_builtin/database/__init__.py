"""The built-in providers of the role ``database``."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def database_providers() -> Iterable[Provider]:
    """Offer SQLite, the embedded default, PostgreSQL and MongoDB."""
    yield Provider(
        "sqlite",
        "base04_builtin.database.sqlite:SqliteDatabaseManager",
        default=True,
        capabilities=frozenset({"sql", "transactions", "shared"}),
        summary="One SQLite file in the data folder, durable and without a server",
    )
    yield Provider(
        "postgresql",
        "base04_builtin.database.postgresql:PostgresDatabaseManager",
        extra="postgres",
        capabilities=frozenset({"sql", "transactions", "shared"}),
        summary="A PostgreSQL server, with a pool of connections for each access role",
    )
    yield Provider(
        "mongodb",
        "base04_builtin.database.mongodb:MongoDatabaseManager",
        extra="mongo",
        capabilities=frozenset({"shared"}),  # and transactions, where the server at hand has them
        summary="A MongoDB; changes of several rows need a replica set",
    )
