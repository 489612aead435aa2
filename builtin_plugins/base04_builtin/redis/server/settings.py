"""Settings of the provider ``server``."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Self

from pydantic import Field, SecretStr, model_validator

from base04_builtin.redis.server.place import Place, parse_address, parse_place
from base04_hookspecs.settings import DataPath, Duration, ManagerSettings

_SENTINEL_PORT: Final = 26379


class TlsSettings(ManagerSettings):
    """How the servers prove who they are, and we to them."""

    ca: DataPath | None = Field(default=None, description="PEM file with who to trust; else whom the system trusts.")
    certificate: DataPath | None = Field(default=None, description="PEM file with our own certificate.")
    key: DataPath | None = Field(default=None, description="PEM file with its private key.")
    key_password: SecretStr | None = Field(default=None, description="What that key is encrypted with.")
    verify: bool = Field(default=True, description="False trusts anybody: for experiments alone.")


class SentinelSettings(ManagerSettings):
    """Who knows where the master is."""

    service: str | None = Field(default=None, min_length=1, description="The name that the sentinels know it by.")
    nodes: tuple[str, ...] = Field(default=(), description="The sentinels, as host:port.")
    username: SecretStr | None = Field(default=None, description="Who we are to the sentinels.")
    password: SecretStr | None = Field(default=None, description="What the sentinels ask for.")


class ServerRedisSettings(ManagerSettings):
    """Where the servers are, and how long to wait for them.

    No call takes longer than ``timeout``, whatever happens. Within it, a call waits at most ``pool_timeout`` for a free
    connection, ``connect_timeout`` for a new one, and ``reply_timeout`` for each reply; what may be tried again is
    tried up to ``retries`` times more.
    """

    url: SecretStr = Field(
        default=SecretStr("redis:///0"),
        description="redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://.",
    )
    username: SecretStr | None = Field(default=None, description="Takes the place of the one in the URL.")
    password: SecretStr | None = Field(default=None, description="Takes the place of the one in the URL.")
    cluster: bool = Field(default=False, description="Whether the URL names a node of a cluster.")
    sentinel: SentinelSettings | None = None
    tls: TlsSettings | None = None
    client_name: str | None = Field(
        default=None, pattern=r"^[!-~]+$", description="What CLIENT LIST shows for our connections."
    )
    pool_size: int = Field(default=50, ge=1, description="How many connections there are at most to one server.")
    pool_timeout: Duration = 2.0
    connect_timeout: Duration = 2.0
    reply_timeout: Duration = 2.0
    timeout: Duration = 5.0
    retries: int = Field(default=2, ge=0, le=20)
    ping_interval: Duration = Field(
        default=10.0, description="How long a connection that listens may be silent before it is asked to prove itself."
    )
    queue_size: int = Field(
        default=1000, ge=1, description="How many messages may wait for one subscriber before the oldest is dropped."
    )
    max_value_bytes: int = Field(
        default=512 * 2**20, ge=1, description="What a value may take as JSON; servers refuse more than 512 MiB."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.place()
        return self

    def place(self) -> Place:
        """Return where the servers are, from the URL and from the settings beside it.

        Raises:
            ValueError: these contradict each other; the message holds no secret.
        """
        place = parse_place(self.url.get_secret_value())
        if self.cluster:
            if place.kind == "sentinel" or self.sentinel is not None:
                raise ValueError("a cluster has no sentinels: leave out 'cluster' or 'sentinel'")
            place = replace(place, kind="cluster")
        if self.sentinel is not None:
            place = _with_sentinels(place, self.sentinel)
        if self.tls is not None and not place.tls:
            raise ValueError("'tls' is for URLs with TLS: write 'rediss' for 'redis' in the URL")
        if not place.nodes:
            raise ValueError("the URL names no host: write for instance 'redis://127.0.0.1:6379/0'")
        if place.kind == "sentinel" and not place.service:
            raise ValueError("the sentinels must be asked for a service: write its name behind the hosts in the URL")
        if place.kind == "cluster" and place.db:
            raise ValueError("a cluster has the database 0 alone: leave out the number")
        return replace(
            place,
            username=_revealed(self.username) or place.username,
            password=_revealed(self.password) or place.password,
        )


def _with_sentinels(place: Place, sentinel: SentinelSettings) -> Place:
    if sentinel.nodes:
        if place.nodes:
            raise ValueError("the hosts are named twice, in the URL and under 'sentinel': leave out one of them")
        nodes = tuple(parse_address(node, _SENTINEL_PORT) for node in sentinel.nodes)
        place = replace(place, kind="sentinel", nodes=nodes)
    elif place.kind != "sentinel":
        raise ValueError("'sentinel' names no 'nodes': list them, or write 'redis+sentinel://' in the URL")
    if sentinel.service and place.service and sentinel.service != place.service:
        raise ValueError("the service is named twice, in the URL and under 'sentinel': leave out one of them")
    return replace(place, service=sentinel.service or place.service)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
