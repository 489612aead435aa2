"""Action packs: reading them against PyYAML's C loader alone, and checking arguments against bare jsonschema-rs.

The packs are 2,000 actions in 200 files, each file with a module of handlers of its own. PyYAML only reads the files;
Base04 reads and checks them, compiles every schema, imports the handlers and compares their signatures. Both start
anew in each round; of Base04 the handlers' modules too. Time is that of the processor.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml
from jsonschema_rs import Draft202012Validator

from base04.testing.conformance.action_discovery import RecordingHost
from base04_builtin.action_discovery.manager import YamlActionDiscoveryManager
from base04_builtin.action_discovery.settings import ActionDiscoverySettings

sys.dont_write_bytecode = False  # handlers are imported as they are in service, from what Python caches

FILES, ACTIONS = 200, 10
GREET = {"name": "Ada", "times": 3}
TURN = 500


def action(pack: int, number: int) -> str:
    return f"""\
  greet{number}:
    summary: Greet someone by name, in way {number}
    description: Says hello to a person, as often as asked, and tells what was said.
    handler: .handlers{pack}:greet{number}
    access: {{permissions: [greetings{pack}.use]}}
    parameters:
      name: {{type: string, minLength: 1, maxLength: 80, description: Whom to greet}}
      times: {{type: integer, minimum: 1, maximum: 10, default: 1, description: How often}}
    required: [name]
    returns: {{type: object, properties: {{message: {{type: string}}}}, required: [message]}}
    timeout: 5s
    rate_limit: 20/minute
"""


def write_packs(folder: Path) -> None:
    for pack in range(FILES):
        actions = "".join(action(pack, number) for number in range(ACTIONS))
        (folder / f"greetings{pack}.yaml").write_text(f"pack: greetings{pack}\nversion: 1.0.0\nactions:\n{actions}")
        handlers = "".join(
            f"async def greet{number}(name: str, times: int) -> dict[str, str]:\n"
            "    return {'message': ' '.join([f'Hello, {name}!'] * times)}\n\n\n"
            for number in range(ACTIONS)
        )
        (folder / f"handlers{pack}.py").write_text(handlers)


def manager_of(folder: Path) -> YamlActionDiscoveryManager:
    settings = ActionDiscoverySettings(folders=(folder,))
    return YamlActionDiscoveryManager(settings, RecordingHost().as_app)


def discover(folder: Path) -> None:
    report = asyncio.run(manager_of(folder).discover_all_actions())
    assert (report["actions"], report["faults"]) == (FILES * ACTIONS, [])


def read_alone(folder: Path) -> None:
    for file in sorted(folder.glob("*.yaml")):
        yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)


def forget_handlers() -> None:
    for name in [name for name in sys.modules if name.startswith("_base04_actions_")]:
        del sys.modules[name]


def timed(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def shown(name: str, unit: str, scale: float, pairs: list[tuple[float, float]]) -> None:
    own, other = (statistics.median(values) * scale for values in zip(*pairs, strict=True))
    ratios = [mine / theirs for mine, theirs in pairs]
    print(
        f"{name:<24} {own:8.2f} {unit}   peer {other:8.2f} {unit}   {statistics.median(ratios):5.2f} x"
        f"   [{min(ratios):.2f} .. {max(ratios):.2f}]"
    )


def compare_reading(folder: Path, rounds: int) -> None:
    pairs = []
    for number in range(rounds + 1):
        forget_handlers()
        pair = (timed(lambda: discover(folder)), timed(lambda: read_alone(folder)))
        if number:  # the first one compiles what Python caches on disk
            pairs.append(pair)
    shown("2,000 actions, 200 files", "ms", 1000, pairs)


def compare_checking(folder: Path, rounds: int, times: int) -> None:
    manager = manager_of(folder)
    asyncio.run(manager.discover_all_actions())
    found = manager.catalogue().find("greetings0.greet0")
    assert found is not None
    validate = found.validate
    validator = Draft202012Validator(found.info["parameters"], validate_formats=True, offline=True)

    def whole(body: bytes) -> object:
        return validate(loads(body))

    def bare(body: bytes) -> object:
        return is_valid(loads(body))

    loads, is_valid, body = orjson.loads, validator.is_valid, orjson.dumps(GREET)
    shown("a greeting, as JSON text", "us", 1e6, [taking_turns(whole, bare, body, times) for _ in range(rounds)])
    shown("a greeting, as a dict", "us", 1e6, [taking_turns(validate, is_valid, GREET, times) for _ in range(rounds)])


def repeated(step: Callable[[Any], object], value: object) -> None:
    for _ in range(TURN):
        step(value)


def taking_turns(
    ours: Callable[[Any], object], theirs: Callable[[Any], object], value: object, times: int
) -> tuple[float, float]:
    """Return the seconds that a call of each takes; they take turns often, as the machine has others to serve."""
    own = other = 0.0
    for _ in range(times // TURN):
        own += timed(lambda: repeated(ours, value))
        other += timed(lambda: repeated(theirs, value))
    return own / times, other / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--times", type=int, default=50_000, help="how often arguments are checked in a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_packs(folder)
        compare_reading(folder, arguments.rounds)
        compare_checking(folder, arguments.rounds, arguments.times)


if __name__ == "__main__":
    main()
