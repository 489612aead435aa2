"""Hosts that a test started and left running."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from base04.app_manager import AppManager

STOP_TIMEOUT_S: Final = 30.0


def running_hosts() -> frozenset[AppManager]:
    """Return all hosts of this process that run; none where nobody has imported the host."""
    module: Any = sys.modules.get("base04.app_manager")
    return frozenset(module.running_hosts) if module is not None else frozenset()


def stop_forgotten(hosts: Iterable[AppManager]) -> str:
    """Stop hosts, each on its own event loop, and return what to tell whoever has forgotten them."""
    return "\n".join(_stop(host) for host in hosts)


def _stop(host: AppManager) -> str:
    import asyncio

    from base04.app_manager import running_hosts

    told = f"The test left a host running, with the data folder {str(host.data_dir)!r}: "
    loop = running_hosts.pop(host, None)
    try:
        if loop is None or loop.is_closed():
            host.folder.release()
            return f"{told}its event loop has ended, so that it cannot be stopped any more. {_ADVICE}"
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(host.stop(), loop).result(STOP_TIMEOUT_S)
        else:
            loop.run_until_complete(host.stop())
    except Exception as error:  # noqa: BLE001 - this is told, whatever it is
        return f"{told}it was stopped now, and that failed: {error}. {_ADVICE}"
    return f"{told}it was stopped now. {_ADVICE}"


_ADVICE: Final = "Start hosts with `async with`, or with the fixtures `app`, `make_app` and `blocking_app`."
