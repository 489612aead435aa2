"""The role ``action_discovery``: which actions there are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NotRequired, Protocol, TypedDict

from base04_hookspecs.context import Principal
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.run_policy import DEFAULT, RunPolicy

CONCEALED: Final = "***"
"""What stands for a secret wherever arguments and results are written down."""


class ActionExample(TypedDict):
    """What to give an action, for people to try, and what may come of it."""

    summary: str
    arguments: dict[str, Any]
    result: NotRequired[Any]


class ActionInfo(TypedDict):
    """What is known of an action, as JSON. ``module`` is the module of its handler, ``source`` is ``file:line``.

    ``run`` is ``RunPolicy.described()``; without it the action is run as by default.
    """

    name: str
    pack: str
    pack_version: str
    summary: str
    description: str
    module: str
    handler: str
    access: Literal["public", "authenticated", "permissions"]
    permissions: list[str]
    parameters: dict[str, Any]
    returns: dict[str, Any] | None
    timeout: float | None
    rate_limit: list[str]
    examples: list[ActionExample]
    source: str
    run: NotRequired[Mapping[str, Any]]


class PackInfo(TypedDict):
    """What is known of a pack, as JSON.

    ``requires`` is what it needs of Base04 (``base04>=0.1``), empty for anything; ``permissions`` are those that it
    introduces, each with what it lets one do; ``actions`` are full names.
    """

    name: str
    version: str
    summary: str
    description: str
    authors: list[str]
    requires: str
    permissions: dict[str, str]
    actions: list[str]
    source: str


class DefinitionFault(TypedDict):
    """One thing that is wrong with an action file. ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int
    message: str


class DiscoveryReport(TypedDict):
    """What a discovery found: the numbers of packs and actions, and everything that is wrong."""

    packs: int
    actions: int
    faults: list[DefinitionFault]


class ActionListing(TypedDict):
    """All actions by full name."""

    actions: dict[str, ActionInfo]
    total: int


@dataclass(frozen=True, slots=True)
class Action:
    """An action, ready to be run by the pipeline.

    ``validate`` takes a caller's arguments and returns new ones with defaults filled, or raises ``InvalidInput`` with
    every fault. ``check_result`` raises ``InvalidInput`` for a result that is not as declared; None checks nothing.
    ``load_handler`` returns the handler; it may import it. Both are pure and quick.

    ``conceal`` and ``conceal_result`` copy arguments, or a result, with ``CONCEALED`` for each secret, also where they
    are not valid; None where there are no secrets. Whoever writes them down anywhere calls these first.
    """

    info: ActionInfo
    validate: Callable[[Mapping[str, Any]], dict[str, Any]]
    load_handler: Callable[[], Callable[..., Any]]
    check_result: Callable[[Any], None] | None = None
    limits: tuple[RateLimit, ...] = ()
    policy: RunPolicy = DEFAULT
    conceal: Callable[[Any], Any] | None = None
    conceal_result: Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        """The full name, ``pack.action``."""
        return self.info["name"]


class ActionCatalogue(Protocol):
    """All actions at one moment; never changes."""

    def find(self, name: str) -> Action | None:
        """Return the action of a full name, or of a short name that is unambiguous; None where there is none."""

    def close_matches(self, name: str) -> list[str]:
        """Return full names that come close to a name that was not found, or that share it, best first."""

    def __iter__(self) -> Iterator[Action]:
        """Yield all actions, by full name."""

    def __len__(self) -> int:
        """Return how many actions there are."""


class ActionLog(Protocol):
    """A structured logger; every event carries the action and the request id."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...


class RunAction(Protocol):
    """Run an action by name through the whole pipeline, as the current principal."""

    def __call__(self, name: str, args: Mapping[str, Any] | None = None) -> Awaitable[Any]: ...


def _ignore_progress(done: float, total: float | None, message: str) -> None:
    """Nobody asked to see progress."""


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What a handler gets when it has a parameter annotated with this class.

    ``run`` runs another action as the same principal, to be awaited; a ``def`` handler uses its blocking managers.
    """

    action: str
    request_id: str
    principal: Principal
    log: ActionLog
    run: RunAction
    report: Callable[[float, float | None, str], None] = field(default=_ignore_progress)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the handler has come; callable from any thread."""
        self.report(done, total, message)


class ActionDiscoveryManager(Manager):
    """Finds actions in packs and folders, checks their definitions, and keeps the catalogue that the host runs from.

    The host's pipeline authorises, limits, validates, runs and records; this role only knows what there is.
    """

    role: ClassVar[str] = "action_discovery"

    @abstractmethod
    async def discover_all_actions(self) -> DiscoveryReport:
        """Read all packs and folders anew. A pack with a fault keeps its last good version, where it had one."""

    @abstractmethod
    def catalogue(self) -> ActionCatalogue:
        """Return all actions as of now. Called for each action that is run; does no I/O."""

    @abstractmethod
    async def find_action(self, action_name: str) -> ActionInfo | None:
        """Return what is known of an action, by full or unambiguous short name; None where there is none."""

    @abstractmethod
    async def validate_action_args(self, action_info: ActionInfo, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with defaults filled.

        Raises:
            InvalidInput: with every fault and its JSON pointer.
        """

    @abstractmethod
    async def execute_action_logic(self, action_info: ActionInfo, args: Mapping[str, Any]) -> Any:
        """Run an action through the host's pipeline, as the current principal, and return its result."""

    @abstractmethod
    async def list_all_actions(self) -> ActionListing:
        """Return all actions by full name."""

    @abstractmethod
    async def list_packs(self) -> dict[str, PackInfo]:
        """Return the packs by name, with all their actions, also those that operators have switched off."""

    @abstractmethod
    async def get_faults(self) -> list[DefinitionFault]:
        """Return what is wrong with action files as they were last read, ordered by file and line."""


@hookspec
def action_discovery_providers() -> Iterable[Provider]:
    """Offer providers of the role ``action_discovery``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
