"""What the supervisor and its workers tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from base04.settings import HostSettings, ServerSettings
from base04_hookspecs.app import WorkerReport
from base04_hookspecs.health import HealthStatus


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the host is: settings as they were read, and plugins that were switched off; ``revision`` counts changes."""

    settings: HostSettings = field(repr=False)
    disabled: frozenset[str]
    revision: int


@dataclass(frozen=True, slots=True)
class Sockets:
    """The descriptors that a worker inherits.

    ``clients`` are the listeners of all workers, in the order of their numbers; ``commands`` the control socket, which
    they share; ``own`` where this one alone is asked; ``lock`` that of the data folder.
    """

    clients: tuple[int, ...]
    commands: int
    own: int
    lock: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker as the others see it; ``socket`` is where it alone listens."""

    report: WorkerReport
    socket: str


# From the supervisor


@dataclass(frozen=True, slots=True)
class Begin:
    """Start, as worker ``number`` of ``workers``; the first message to a worker."""

    version: str
    number: int
    workers: int
    accepted: Accepted
    server: ServerSettings
    safe_mode: bool
    sockets: Sockets
    import_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serve:
    """Accept connections; the answer to ``Started``."""


@dataclass(frozen=True, slots=True)
class Greet:
    """Say what the host says at its start, with this URL."""

    url: str


@dataclass(frozen=True, slots=True)
class Turn:
    """It is this worker's turn to change the host; ``refusal`` says why it will never be."""

    change: int
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Converged:
    """The others have followed a change, or are known not to."""

    change: int


@dataclass(frozen=True, slots=True)
class Follow:
    """Become this."""

    accepted: Accepted
    renew: str | None


@dataclass(frozen=True, slots=True)
class Roster:
    """All workers, and the revision that they should serve."""

    revision: int
    peers: tuple[Peer, ...]
    restarts: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept connections for these other workers, which cannot just now, and for no others."""

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Ask:
    """Say how you are."""


@dataclass(frozen=True, slots=True)
class ReadAnew:
    """Read settings, plugins and packs anew, because somebody has sent SIGHUP."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain and end; ``at_once`` without waiting for requests."""

    at_once: bool = False


# From a worker


@dataclass(frozen=True, slots=True)
class Started:
    """All managers are up."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Connections are accepted."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the host says at its start."""

    lines: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TurnWanted:
    """This worker was asked to change the host."""

    change: int


@dataclass(frozen=True, slots=True)
class Changed:
    """This worker has changed, and the others are to follow."""

    change: int
    accepted: Accepted
    renew: str | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The change was refused, or none was needed."""

    change: int


@dataclass(frozen=True, slots=True)
class Followed:
    """This worker serves a revision; ``fault`` says why it does not."""

    revision: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """How this worker is."""

    health: HealthStatus | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """This worker drains, though nobody has told it through the channel."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why this worker ends."""

    reason: str


Order = Accept | Begin | Serve | Greet | Turn | Converged | Follow | Roster | Ask | ReadAnew | Stop
News = Started | Serving | Greeting | TurnWanted | Changed | Unchanged | Followed | State | Leaving | Failed
