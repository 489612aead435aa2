"""What kind of server answers, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pymongo.asynchronous.database import AsyncDatabase

_WRITES: Final = frozenset(
    {
        "anyAction",
        "insert",
        "update",
        "remove",
        "createCollection",
        "dropCollection",
        "createIndex",
        "dropIndex",
        "dropDatabase",
        "renameCollectionSameDB",
        "collMod",
        "bypassDocumentValidation",
    }
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was found out when the manager started.

    ``transactions``: several documents can change together. ``atomic_updates``: an update finds and changes a document
    in one step, as MongoDB promises; FerretDB 1 does not, and lets two writers both find what each of them changes.
    """

    name: str
    version: str
    transactions: bool
    atomic_updates: bool


async def examine(database: AsyncDatabase[dict[str, Any]]) -> Deployment:
    """Ask a server what it is."""
    hello = await database.client.admin.command("hello")
    build = await database.client.admin.command("buildInfo")
    ferretdb = str(build.get("ferretdbVersion") or (build.get("ferretdb") or {}).get("version") or "")
    several = bool(hello.get("setName")) or hello.get("msg") == "isdbgrid"
    sessions = hello.get("logicalSessionTimeoutMinutes") is not None
    return Deployment(
        name="FerretDB" if ferretdb else "MongoDB",
        version=ferretdb or str(build.get("version", "")),
        transactions=several and sessions and not ferretdb,
        atomic_updates=not ferretdb.lstrip("v").startswith(("0.", "1.")),
    )


async def rights_to_write(database: AsyncDatabase[dict[str, Any]]) -> list[str] | None:
    """Return which rights to change anything the connected user has, None where the server knows no users."""
    status = await database.command("connectionStatus", showPrivileges=True)
    info = status["authInfo"]
    if not info.get("authenticatedUsers"):
        return None
    granted = {action for each in info.get("authenticatedUserPrivileges", ()) for action in each.get("actions", ())}
    return sorted(granted & _WRITES)
