"""The settings of the provider ``database`` of the role ``state``."""

from __future__ import annotations

from pydantic import Field

from base04_hookspecs.settings import Duration, ManagerSettings


class StateSettings(ManagerSettings):
    """How states are kept. Times are in seconds."""

    conflict_retries: int = Field(default=100, ge=0, le=10_000)
    """How often a change is tried again because another process changed the same state first."""

    cache_ttl: Duration = 30.0
    """How long a state stays in the cache, and so how old at most a read is where the cache missed a change."""

    cache_timeout: Duration = 0.5
    """How long to wait for the cache, before going on without it."""

    history_limit: int | None = Field(default=None, ge=1)
    """How many changes of each state are kept at least; older ones go. None keeps all."""

    history_age: Duration | None = None
    """How long changes are kept at least; the last one of each state stays. None keeps all."""

    sweep_interval: Duration = 1.0
    """How often states are looked for whose time has passed."""

    poll_interval: Duration = 2.0
    """How often durable callbacks and watchers look for changes that nobody has told them of."""

    lease: Duration = 10.0
    """How long a process that delivers to a durable callback may be silent before another takes over."""

    callback_timeout: Duration = 60.0
    """How long a durable callback may take for one change; after that it has failed."""

    callback_attempts: int = Field(default=8, ge=1, le=1000)
    """How often a change is delivered to a durable callback that fails, before it is parked."""

    callback_pause: Duration = 1.0
    """How long to wait after the first failure; twice as long after each further one, up to five minutes."""
