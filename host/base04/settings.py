"""Settings: ``base04.yaml`` and the environment, validated."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from base04.errors import SettingsError, SettingsFault
from base04.settings_source import (
    KeyPath,
    SettingsDocument,
    dotted,
    merge,
    process_environment,
    read_environment,
    read_settings_file,
    resolve_environment_references,
    secret_references,
)
from base04_hookspecs.annotations import unwrap
from base04_hookspecs.settings import Duration

DEFAULT_FILE: Final = Path("base04.yaml")
ModelT = TypeVar("ModelT", bound=BaseModel)

_CONFIG = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(BaseModel):
    """How the host serves HTTP."""

    model_config = _CONFIG

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_body_bytes: Annotated[int, Field(ge=1)] = 1024 * 1024
    trusted_proxies: tuple[str, ...] = ()
    drain_timeout: Duration = 30.0
    health_interval: Duration = 5.0


class PluginSettings(BaseModel):
    """Which plugins take part. ``allow`` and ``deny`` name plugins or distributions, ``*`` and ``?`` are wildcards."""

    model_config = _CONFIG

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    autoload: bool = True
    paths: tuple[Path, ...] = ()


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


class HostSettings(BaseModel):
    """Everything that the host reads. ``document`` keeps what was written, for the providers and for error messages."""

    model_config = _CONFIG

    data_dir: Path = Path("base04-data")
    server: ServerSettings = ServerSettings()
    plugins: PluginSettings = PluginSettings()
    managers: dict[str, RoleSettings] = Field(default_factory=dict)
    log: LogSettings = LogSettings()

    _document: SettingsDocument = PrivateAttr(default_factory=SettingsDocument)

    @property
    def document(self) -> SettingsDocument:
        """The settings as they were written, with the places of their keys."""
        return self._document

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
    environ = process_environment() if environ is None else environ
    document = merge(_written(source), read_environment(environ))
    document = merge(document, SettingsDocument(dict(overrides or {})))
    document = resolve_environment_references(document, environ)
    settings = validate(HostSettings, document)
    _refuse_early_secrets(document)
    settings._document = document
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
            section,
            document.place((section,)),
            "${secret:...} is known only once the vault has started; here, use ${env:NAME} or ${file:path}.",
        )
        for section, values in document.values.items()
        if section != "managers" and any(secret_references(values))
    ]
    if faults:
        raise SettingsError(faults)


def validate(
    model: type[ModelT],
    document: SettingsDocument,
    *,
    prefix: KeyPath = (),
    context: Mapping[str, Any] | None = None,
) -> ModelT:
    """Validate a document with a model; keys that the model does not know are faults unless it allows extras.

    Raises:
        SettingsError: with every fault, its key and its place.
    """
    faults = [
        _unknown_key(model, document, prefix, (key,))
        for key in document.values
        if model.model_config.get("extra") not in ("allow", "forbid") and key not in _known_keys(model)
    ]
    try:
        settings = model.model_validate(document.values, context=dict(context or {}))
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            path = tuple(item["loc"])
            if item["type"] == "extra_forbidden":
                faults.append(_unknown_key(model, document, prefix, path))
            else:
                faults.append(SettingsFault(dotted((*prefix, *path)), document.place(path), f"{item['msg']}."))
        raise SettingsError(faults) from None
    if faults:
        raise SettingsError(faults)
    return settings


def _unknown_key(model: type[BaseModel], document: SettingsDocument, prefix: KeyPath, path: KeyPath) -> SettingsFault:
    known = _known_keys(_model_at(model, path[:-1]))
    message = "There is no such key"
    close = difflib.get_close_matches(str(path[-1]), known, 1, 0.5)
    if close:
        message += f"; did you mean {close[0]!r}?"
    elif known:
        message += f"; there are {', '.join(sorted(known))}."
    else:
        message += " here; nothing can be set."
    return SettingsFault(dotted((*prefix, *path)), document.place(path), message)


def _known_keys(model: type[BaseModel] | None) -> set[str]:
    if model is None:
        return set()
    return {field.alias or name for name, field in model.model_fields.items()}


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Follow a key path through nested models, mappings and lists of models."""
    current: Any = model
    for part in path:
        current, _, _ = unwrap(current)
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            arguments = [item for item in typing.get_args(current) if item is not type(None) and item is not ...]
            current = arguments[-1] if arguments else None
    current, _, _ = unwrap(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
