"""Settings: ``base04.yaml`` and the environment, validated."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from base04.errors import SettingsError, SettingsFault
from base04.settings_keys import unknown_keys
from base04.settings_source import (
    KeyPath,
    SettingsDocument,
    dotted,
    merge,
    process_environment,
    read_environment,
    read_settings_file,
    resolve_environment_references,
    secret_places,
)
from base04_hookspecs.rate_limiter import OnUnavailable
from base04_hookspecs.settings import Duration

DEFAULT_FILE: Final = Path("base04.yaml")
ModelT = TypeVar("ModelT", bound=BaseModel)

_CONFIG = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


StatePattern = Annotated[str, Field(pattern=r"^[^*]*\*?$", min_length=1)]
Permission = Annotated[str, Field(pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*$")]


class ServerSettings(BaseModel):
    """How the host serves HTTP.

    ``workers`` is how many processes ``base04 serve`` starts. ``state_permissions`` says which permission states need
    whose ids match, such as ``{"user_*": users}``: then ``users.read`` and ``users.write`` instead of ``state.read``
    and ``state.write``. The longest pattern counts.
    """

    model_config = _CONFIG

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_body_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    trusted_proxies: tuple[str, ...] = ()
    drain_timeout: Duration = 30.0
    health_interval: Duration = 5.0
    public_metrics: bool = False
    denial_cost: Annotated[int, Field(ge=1, le=1000)] = 10
    state_permissions: dict[StatePattern, Permission] = Field(default_factory=dict)
    rate_limit_on_unavailable: OnUnavailable | dict[str, OnUnavailable] | None = None


class PluginSettings(BaseModel):
    """Which plugins take part, and what they may take.

    ``allow`` and ``deny`` name plugins or distributions, ``*`` and ``?`` are wildcards. A ``startup`` or ``shutdown``
    step may take ``step_timeout``. What is not ready is tried again after ``retry_delay``, then after twice as long, up
    to 16 times as long. Whose loading, or whose call before or after an action, takes longer than ``slow_after`` is
    named in the log. ``trace_hooks`` has every call of a hook, and of what hooks have returned, timed.
    """

    model_config = _CONFIG

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    autoload: bool = True
    paths: tuple[Path, ...] = ()
    step_timeout: Duration = 30.0
    retry_delay: Duration = 5.0
    slow_after: Duration = 1.0
    trace_hooks: bool = False


class InstanceSettings(BaseModel):
    """What the host reads of an instance; everything else is for its provider."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    provider: str | None = None
    required: bool = True
    start_timeout: Duration = 30.0
    stop_timeout: Duration = 10.0


class RoleSettings(InstanceSettings):
    """What the host reads of a role: its default instance, and the named ones."""

    instances: dict[str, InstanceSettings] = Field(default_factory=dict)


class LogSettings(BaseModel):
    """What the host writes to standard error."""

    model_config = _CONFIG

    level: typing.Literal["debug", "info", "warning", "error"] = "info"
    format: typing.Literal["auto", "console", "json"] = "auto"


class AuditSettings(BaseModel):
    """What the audit log keeps.

    Denials of one address for one reason are written one by one only once in each ``window``, then counted; of at most
    ``window_size`` addresses and reasons, then all others together. ``most_denials`` bounds how many are kept.
    """

    model_config = _CONFIG

    retention: Duration = 90 * 86400.0
    window: Duration = 60.0
    window_size: Annotated[int, Field(ge=1, le=10_000)] = 256
    most_denials: Annotated[int, Field(ge=1)] = 100_000


class ExecutionSettings(BaseModel):
    """What is kept of runs of actions, and how those in the background are looked after.

    At most ``most`` ended executions are kept, for ``retention``. ``waiting`` runs of requests may wait to be written
    to the history, where ``history`` is on. A process that runs an execution, or the first request with an
    ``Idempotency-Key``, holds it for ``lease`` and renews that; once it has passed, the process counts as dead. An
    execution whose process died is begun again at most ``max_attempts`` times in all, where its action is idempotent.
    Answers to requests with an ``Idempotency-Key`` are kept for ``keep_answers``.
    """

    model_config = _CONFIG

    history: bool = True
    retention: Duration = 30 * 86400.0
    most: Annotated[int, Field(ge=1)] = 1_000_000
    waiting: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    lease: Duration = 30.0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    keep_answers: Duration = 86400.0


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("the endpoint of a collector is written as http://host:4318, and headers go into 'headers'")
    return value.rstrip("/")


class TelemetrySettings(BaseModel):
    """Traces and logs for an OpenTelemetry collector, over OTLP/HTTP; needs the extra ``otel``.

    It is on where ``enabled`` is true, or where that is not given and there is an ``endpoint``: ``/v1/traces`` and
    ``/v1/logs`` are put behind it. What is not given here is taken from the variables ``OTEL_*``. ``sample_ratio`` is
    the share of traces that are recorded, of those that begin here; whoever sends a ``traceparent`` has decided, unless
    ``trust_traceparent`` is false: then each request begins a trace of its own, with a link to the one that was sent.
    Paths in ``exclude`` have no spans; ``*`` is a wildcard. When the host stops, it tries to deliver what waits for
    ``flush_timeout`` at most.
    """

    model_config = _CONFIG

    enabled: bool | None = None
    endpoint: Annotated[str, AfterValidator(_http_url)] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    service_name: Annotated[str, Field(min_length=1)] | None = None
    sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    trust_traceparent: bool = True
    traces: bool = True
    logs: bool = True
    exclude: tuple[str, ...] = ("/health", "/health/*", "/metrics")
    flush_timeout: Duration = 5.0

    @property
    def on(self) -> bool:
        """Whether anything is sent."""
        wanted = self.endpoint is not None if self.enabled is None else self.enabled
        return wanted and (self.traces or self.logs)


class HostSettings(BaseModel):
    """Everything that the host reads. ``document`` keeps what was written, for the providers and for error messages."""

    model_config = _CONFIG

    data_dir: Path = Path("base04-data")
    server: ServerSettings = ServerSettings()
    plugins: PluginSettings = PluginSettings()
    managers: dict[str, RoleSettings] = Field(default_factory=dict)
    log: LogSettings = LogSettings()
    audit: AuditSettings = AuditSettings()
    executions: ExecutionSettings = ExecutionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    _document: SettingsDocument = PrivateAttr(default_factory=SettingsDocument)
    _read_again: Callable[[], HostSettings] | None = PrivateAttr(default=None)

    @property
    def document(self) -> SettingsDocument:
        """The settings as they were written, with the places of their keys."""
        return self._document

    def read_again(self) -> HostSettings:
        """Read the same file, environment and overrides as they are now.

        Raises:
            SettingsError: with every fault, its key and its place.
        """
        return self if self._read_again is None else self._read_again()

    def role(self, role: str) -> RoleSettings:
        """Return the settings of a role, the defaults where nothing was written."""
        return self.managers.get(role) or RoleSettings()


def load_settings(
    source: HostSettings | Mapping[str, Any] | str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> HostSettings:
    """Read settings from a file, or from a mapping, then the environment, then ``overrides``, and validate them.

    Without a source ``base04.yaml`` of the present folder is read where there is one.

    Raises:
        SettingsError: with every fault, its key and its place.
    """
    if isinstance(source, HostSettings):
        return source
    given = environ
    environ = process_environment() if environ is None else environ
    document = merge(_written(source), read_environment(environ))
    document = merge(document, SettingsDocument(dict(overrides or {})))
    document = resolve_environment_references(document, environ)
    settings = validate(HostSettings, document)
    _refuse_early_secrets(document)
    settings._document = document
    settings._read_again = partial(load_settings, source, environ=given, overrides=overrides)
    return settings


def _written(source: Mapping[str, Any] | str | Path | None) -> SettingsDocument:
    if isinstance(source, Mapping):
        return SettingsDocument(dict(source))
    if source is None:
        return read_settings_file(DEFAULT_FILE) if DEFAULT_FILE.exists() else SettingsDocument()
    return read_settings_file(Path(source))


def _refuse_early_secrets(document: SettingsDocument) -> None:
    faults = [
        SettingsFault(
            dotted(path),
            document.place(path),
            "${secret:...} is known only once the vault has started; here, use ${env:NAME} or ${file:path}.",
        )
        for path, _ in secret_places(document.values)
        if path[0] != "managers"
    ]
    if faults:
        raise SettingsError(faults)


def validate(
    model: type[ModelT],
    document: SettingsDocument,
    *,
    prefix: KeyPath = (),
    context: Mapping[str, Any] | None = None,
    also_known: Iterable[str] = (),
) -> ModelT:
    """Validate a document with a model; keys that no model reads are faults unless one allows extras.

    ``also_known`` are keys that somebody else reads; a typo may be meant to be one of them.

    Raises:
        SettingsError: with every fault, its key and its place; no message shows a hidden value.
    """
    unknown = dict(unknown_keys(model, document.values, also_known))
    found = list(unknown.items())
    settings = None
    try:
        settings = model.model_validate(document.values, context=dict(context or {}))
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            path = tuple(item["loc"])
            if item["type"] != "extra_forbidden":
                found.append((path, f"{_without(document.hidden, item['msg'])}."))
            elif path not in unknown:
                found.append((path, "There is no such key here."))
    if settings is None or found:
        raise SettingsError([_fault(document, prefix, path, message) for path, message in found])
    return settings


def _fault(document: SettingsDocument, prefix: KeyPath, path: KeyPath, message: str) -> SettingsFault:
    moved = document.moved.get(str(path[0]), ()) if path else ()
    return SettingsFault(dotted((*prefix, *moved, *path)), document.place(path), message)


def _without(hidden: Iterable[str], message: str) -> str:
    """Take out of a message what may be a secret: a plugin's own validator may have put it in."""
    for value in sorted(hidden, key=len, reverse=True):
        for shown in (value, repr(value)[1:-1]):
            message = message.replace(shown, "***") if shown else message
    return message
