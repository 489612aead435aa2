"""Writing a distribution that installs, type-checks and passes its own tests, for somebody to go on from."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any, Final, Literal

from base04.discovery import Discovery
from base04.errors import HostError
from base04.plugins.plugin import HOST_DISTRIBUTION, Candidate
from base04_hookspecs.roles import ROLES

Kind = Literal["plugin", "pack", "role", "manager"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_SUFFIX: Final = ".template"
_SUITES: Final = {
    "hooks": "HooksConformance",
    "jwt": "JWTConformance",
    "redis": "RedisConformance",
    "services": "ServicesConformance",
    "state": "StateConformance",
}
"""The suites that need nothing but managers of hosts."""
_SETTINGS: Final = {"jwt": '{"managers": {"jwt": {"algorithm": "ES256"}}}, '}
"""Settings with which a built-in provider has all that it declares: a key set is of keys that are not symmetric."""
_BY_HAND: Final = (
    " For other roles, begin a role of your own, derive from the contract instead, and offer it from the hook "
    "<role>_providers: see 'Write one' in docs/swap-a-manager.md."
)
_NEEDS_ANOTHER: Final = frozenset({"redis"})
"""The roles whose suites need a second manager, as another process would have it."""
_ANOTHER: Final = """
    @pytest.fixture
    def another(self, make_app: MakeApp) -> Another:
        @asynccontextmanager
        async def another() -> AsyncIterator[${contract_class}]:
            async with make_app(plugins=["${name}"], only=["${role}"]) as app:
                yield cast(${contract_class}, app.get_manager("${role}"))

        return another
"""
_ANOTHER_IMPORTS: Final = """\
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

"""
_SUMMARIES: Final = {
    "plugin": "A route, and something that happens before every action, for Base04.",
    "pack": "Actions for Base04.",
    "role": "A manager of a role of its own, for Base04.",
    "manager": "Another provider of a role of Base04.",
}


def write_distribution(kind: Kind, name: str, folder: Path, more: Mapping[str, Any] | None = None) -> list[str]:
    """Write a distribution into a new folder, and return the names of its files.

    Args:
        kind: which one.
        name: of the distribution, and of the plugin or pack in it: ``acme-cache``.
        folder: where; it must not be there, or be empty.
        more: what only this kind's templates use.

    Raises:
        HostError: the name cannot be used, or the folder is not empty.
    """
    _refuse_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HostError(f"{str(folder)!r} is there already, and not empty; nothing was written.")
    values = {**_values(kind, name), **(more or {})}
    values |= {key: Template(values[key]).substitute(values) for key in ("another",) if key in values}
    written = []
    for path, text in (*_files(_templates() / "common"), *_files(_templates() / kind)):
        target = path.replace("_module_", values["module"])
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(Template(text).substitute(values), encoding="utf-8")
        written.append(target)
    typed = folder / "py.typed"  # says that the types of the package may be relied on
    typed.rename(folder / "src" / values["module"] / "py.typed")
    return sorted([f"src/{values['module']}/py.typed", *(item for item in written if item != "py.typed")])


def replacing(role: str, discovery: Discovery) -> dict[str, Any]:
    """Return what the templates of a ``manager`` use: the built-in provider to begin as, and the suite of the role.

    Raises:
        HostError: there is no built-in provider of this role, or its suite needs more than a manager.
    """
    built_in: dict[str, Candidate] = {
        name: candidate
        for name, offered in discovery.candidates.items()
        for candidate in offered
        if candidate.built_in and candidate.provider.default and name in _SUITES
    }
    if role not in built_in:
        instead = _BY_HAND if role in ROLES else " Base04 has no such role; one of your own is begun without --role."
        there = ", ".join(sorted(built_in))
        raise HostError(f"A provider of {role!r} cannot be begun like this; there are {there}.{instead}")
    provider = built_in[role].provider
    module, _, cls = provider.target.partition(":")
    capabilities = sorted(provider.capabilities)
    return {
        "role": role,
        "base_module": module,
        "base_class": cls,
        "suite": _SUITES[role],
        "settings": _SETTINGS.get(role, ""),
        **_another(role),
        "contract": ROLES[role].contract_version,
        "capabilities": repr(set(capabilities)) if capabilities else "",
        "capabilities_argument": f", capabilities=frozenset({set(capabilities)!r})" if capabilities else "",
    }


def _another(role: str) -> dict[str, str]:
    """Return what makes a second manager in the tests of a provider, where the suite of its role needs one."""
    if role not in _NEEDS_ANOTHER:
        return {"another": "", "another_imports": "", "contract_import": "", "suite_imports": _SUITES[role]}
    contract = ROLES[role].__name__
    return {
        "another": _ANOTHER,
        "another_imports": _ANOTHER_IMPORTS,
        "contract_class": contract,
        "contract_import": f"from base04_hookspecs.{role} import {contract}\n",
        "suite_imports": f"Another, {_SUITES[role]}",
    }


def _values(kind: Kind, name: str) -> dict[str, Any]:
    module = name.replace("-", "_")
    groups = {"base04.actions": module} if kind == "pack" else {"base04.plugins": f"{module}.plugin"}
    points = "".join(f'\n[project.entry-points."{group}"]\n{name} = "{target}"\n' for group, target in groups.items())
    return {
        "distribution": name,
        "name": name,
        "module": module,
        "role": module,
        "Class": "".join(part.title() for part in name.split("-")),
        "summary": _SUMMARIES[kind],
        "entry_points": points,
        "extra_tests": ', "httpx2"' if kind == "plugin" else "",
        "host_versions": _host_versions(importlib.metadata.version(HOST_DISTRIBUTION)),
    }


def _refuse_name(name: str) -> None:
    module = name.replace("-", "_")
    if not _NAME.match(name):
        raise HostError(
            f"The name {name!r} cannot be used: write small letters, digits and single hyphens, as 'acme-cache'."
        )
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module.startswith("base04"):
        raise HostError(f"The name {name!r} cannot be used: a module of that name is Python's or Base04's own.")
    if name.startswith("builtin-"):
        raise HostError(
            f"The name {name!r} cannot be used: names that begin with 'builtin-' are those of Base04's own plugins."
        )
    installed = _installed(module)
    if installed is not None:
        raise HostError(
            f"The name {name!r} cannot be used: the module {module!r} is there already, in {installed}. "
            "Choose another name, or uninstall what brought it."
        )


def _installed(module: str) -> str | None:
    """Return where a module of this name comes from, None where there is none."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return None
    return repr(spec.origin or next(iter(spec.submodule_search_locations or ()), "an unknown place"))


def _templates() -> Traversable:
    return importlib.resources.files("base04.templates")


def _files(folder: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.is_dir():
            yield from _files(item, f"{above}{item.name}/")
        elif item.name.endswith(_SUFFIX):
            yield above + item.name.removesuffix(_SUFFIX), item.read_text(encoding="utf-8")


def _host_versions(running: str) -> str:
    """Return the versions of Base04 that a distribution begun with one of them can count on: those of its minor."""
    major, minor = (int(part) for part in running.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}"
