"""``base04 init``: a settings file and a first action."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from base04.cli.output import JSONOption, print_json
from base04.errors import HostError

_SETTINGS: Final = """\
# Settings of this host. Every key can also be set by a variable: BASE04_SERVER__PORT=8001
# Values may refer to ${env:NAME}, ${file:path} and, below managers, ${secret:path#key}.

server: {host: 127.0.0.1, port: 8000}

managers:
  action_discovery:
    folders: [actions]
  rate_limiter:
    limits: {ip: 600/minute}
"""
_PACK: Final = """\
pack: hello
version: 1.0.0
actions:
  greet:
    summary: Greet someone by name
    handler: .hello:greet           # the function greet of hello.py beside this file
    access: public
    parameters:
      name: {type: string, minLength: 1, maxLength: 80}
    required: [name]
"""
_HANDLER: Final = '''\
"""The handlers of hello.yaml."""


async def greet(name: str) -> dict[str, str]:
    """Greet someone."""
    return {"message": f"Hello, {name}!"}
'''
_CURL: Final = """curl -s localhost:8000/actions/hello.greet -H 'content-type: application/json' -d '{"name": "Ada"}'"""
FILES: Final = {"base04.yaml": _SETTINGS, "actions/hello.yaml": _PACK, "actions/hello.py": _HANDLER}


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(), as_json: JSONOption = False
) -> None:
    """Write a settings file and a first action, ready to be served."""
    taken = [name for name in FILES if (folder / name).exists()]
    if taken:
        raise HostError(f"There is already {', '.join(taken)} in {str(folder.resolve())!r}; nothing was written.")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    there = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    if as_json:
        print_json({"folder": str(folder.resolve()), "written": list(FILES)})
    else:
        sys.stdout.write(f"Wrote {', '.join(FILES)}.\nNext: {there}base04 serve, and in another terminal\n  {_CURL}\n")
