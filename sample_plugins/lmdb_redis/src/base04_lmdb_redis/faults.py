"""Errors of LMDB and of the disk, as those that a manager may raise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from base04_hookspecs.errors import ManagerUnavailable

DAMAGED: Final = (
    lmdb.BadChecksumError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
)
"""What says that the file is not what LMDB has written, or that it must be opened anew."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file into an error that says what to do about it.

    Raises:
        ManagerUnavailable: for every error of LMDB or of the operating system.
    """
    try:
        yield
    except DAMAGED as error:
        raise ManagerUnavailable(
            f"The LMDB store {path} is damaged ({error}). It holds nothing that must last: stop the hosts that use it "
            "and remove it, or move it away while they run; it is made anew."
        ) from error
    except (lmdb.MapFullError, lmdb.TxnFullError) as error:
        raise ManagerUnavailable(f"The LMDB store {path} has no room ({error}): set a larger size.") from error
    except lmdb.ReadersFullError as error:
        raise ManagerUnavailable(f"Too many processes use the LMDB store {path} ({error}).") from error
    except (lmdb.Error, OSError) as error:
        raise ManagerUnavailable(f"The LMDB store {path} cannot be used: {error}.") from error
