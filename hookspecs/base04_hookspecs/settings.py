"""Types for the settings models of providers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo


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
