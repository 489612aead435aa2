"""Types for the settings models of providers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo


class ManagerSettings(BaseModel):
    """A convenient base for a provider's settings: unknown keys are refused, values are fixed, defaults checked.

    Any pydantic model may take its place; the host refuses unknown keys for every model that does not allow extras.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


def _inside_data_folder(path: Path, info: ValidationInfo) -> Path:
    context: Any = info.context
    folder = context.get("data_dir") if isinstance(context, dict) else None
    expanded = path.expanduser()
    return Path(folder) / expanded if folder is not None else expanded


DataPath = Annotated[Path, AfterValidator(_inside_data_folder)]
"""A path; a relative one lies inside the host's data folder."""


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\Z")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def parse_duration(value: Any) -> float:
    """Read ``5s``, ``500ms``, ``2m``, ``1h``, ``30d`` or a plain number of seconds, and return seconds above zero.

    Raises:
        ValueError: it is written otherwise, or is not above zero.
    """
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is not None:
        seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"{value!r} is not a duration: write '5s', '500ms', '2m', '1h' or a number of seconds")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{value!r} is not a duration above zero")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds; written as ``5s``, ``500ms``, ``2m``, ``1h``, ``30d`` or a number."""
