"""Which plugins were switched off while a host ran; kept in the data folder."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Final

from base04.errors import HostError

_FILE: Final = "modules.json"


class ModuleChoices:
    """The file ``modules.json`` of a data folder: ``{"disabled": [names]}``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE

    def read(self) -> frozenset[str]:
        """Return the names of the plugins that were switched off.

        Raises:
            HostError: the file is there and cannot be read.
        """
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))["disabled"]
            return frozenset(name for name in found if isinstance(name, str))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HostError(
                f"{str(self._file)!r}, which says what was switched off, cannot be read: {error!r}. Mend it, or remove "
                "it to let all plugins take part."
            ) from error

    def write(self, disabled: frozenset[str]) -> None:
        """Keep the names for the next start; whoever reads meanwhile sees the old ones or the new ones."""
        descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=f"{_FILE}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"disabled": sorted(disabled)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
