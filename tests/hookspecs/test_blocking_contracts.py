"""The blocking contracts are what the generator makes of the others, and mean what they should to a type checker."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, assert_type

import pytest

from base04_hookspecs import _generate_blocking as generator
from base04_hookspecs import blocking
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.manager import Manager
from base04_hookspecs.roles import ROLES
from base04_hookspecs.state import State, StateChange

EVERY_CONTRACT: list[type] = [Manager, *ROLES.values(), AppManager]


def test_blocking_module_is_as_generated() -> None:
    assert generator.target_file().read_text(encoding="utf-8") == generator.generate(), (
        f"base04_hookspecs/blocking.py is not what the contracts give: run `{generator.COMMAND}` and commit the result."
    )


def test_contracts_of_all_roles_have_a_blocking_namesake() -> None:
    assert {kind.__name__: contract for kind, contract in blocking.CONTRACTS.items()} == {
        contract.__name__: contract for contract in ROLES.values()
    }


@pytest.mark.parametrize("contract", EVERY_CONTRACT, ids=lambda contract: contract.__name__)
def test_blocking_contract_has_the_same_methods_without_async(contract: type) -> None:
    namesake = getattr(blocking, contract.__name__)
    names = [
        name
        for name in dir(contract)
        if not name.startswith("_")
        and (callable(getattr(contract, name)) or isinstance(vars(contract).get(name), property))
        and not any(f"{owner.__name__}.{name}" in generator.HOST_ONLY for owner in contract.__mro__)
    ]
    assert names
    for name in names:
        theirs, ours = inspect.getattr_static(contract, name), inspect.getattr_static(namesake, name)
        assert not inspect.iscoroutinefunction(ours)
        if isinstance(theirs, property):
            assert isinstance(ours, property)
            theirs, ours = theirs.fget, ours.fget
        assert theirs is not None
        assert ours is not None
        assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters, name
        assert ours.__doc__


def test_methods_left_out_exist_and_have_a_reason() -> None:
    contracts = {contract.__name__: contract for contract in EVERY_CONTRACT}
    for name, reason in generator.HOST_ONLY.items():
        owner, _, method = name.partition(".")
        assert callable(getattr(contracts[owner], method))
        assert reason
        assert not hasattr(getattr(blocking, owner), method)


# What follows is for the type checker: mypy runs over the tests with `warn_unused_ignores`, so that a line whose
# error it no longer sees fails the check just as one whose error is new.


def correct_use(app: blocking.AppManager) -> None:
    assert_type(app.get_redis_manager().ping(), bool)
    assert_type(app.get_state_manager().get_state("a", fresh=True), State | None)
    assert_type(app.get_state_manager().watch("a"), Iterator[StateChange])
    assert_type(app.get_db_manager("read_only").with_access("admin"), blocking.DatabaseManager)
    assert_type(app.get_manager("mailer"), blocking.Manager)
    assert_type(app.jwt_manager, blocking.JWTManager)
    app.get_state_manager().register_callback("a", correct_callback)


def correct_callback(change: StateChange) -> None:
    change["state_id"].upper()


async def wrong_use(app: blocking.AppManager, redis: blocking.RedisManager) -> None:
    await redis.ping()  # type: ignore[misc]  # must fail: the result is there already
    await app.start()  # type: ignore[func-returns-value,misc]  # must fail: the host has started already
    redis.set("key", "value", 60, True)  # type: ignore[call-arg]  # must fail: only_if_absent is keyword-only
    redis.get(1)  # type: ignore[arg-type]  # must fail: keys are strings
    async for _ in app.get_state_manager().watch("a"):  # type: ignore[attr-defined]  # must fail: a plain iterator
        pass
    redis.start()  # type: ignore[attr-defined]  # must fail: the host starts managers


# Contracts of others

MAILER = '''
    """A role of a plugin."""

    from __future__ import annotations

    import datetime as dt
    from abc import abstractmethod
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
    from dataclasses import dataclass
    from typing import TYPE_CHECKING, Any, ClassVar, Literal

    from base04_hookspecs import Manager
    from base04_hookspecs.database import DatabaseManager

    if TYPE_CHECKING:
        from base04_hookspecs.redis import RedisManager

    LIMIT = 10


    @dataclass
    class Mail:
        subject: str


    class Counting:
        async def count(self) -> int:
            """Return how many there are."""
            return 0


    class MailerManager(Counting, Manager):
        """Sends mail.

        More about it.
        """

        role: ClassVar[str] = "mailer"

        @abstractmethod
        async def send(self, mail: Mail, /, *to: str, priority: Literal["low", "high"] = "low", **more: Any) -> bool:
            """Send a mail \\"now\\".

            Raises: nothing.
            """

        @abstractmethod
        def sent(self, since: dt.datetime | None = None, limit: int = LIMIT) -> AsyncGenerator[Mail, None]: ...

        @abstractmethod
        def later(self) -> Awaitable[list[Mail]]: ...

        @abstractmethod
        async def watch(self) -> "AsyncIterator[Mail]": ...

        @abstractmethod
        def archive(self) -> DatabaseManager: ...

        @abstractmethod
        async def remember_in(self, redis: RedisManager) -> None: ...

        @property
        def sender(self) -> str:
            """Who sends."""
            return ""

        async def _private(self) -> None: ...


    class BulkMailerManager(MailerManager):
        """Sends much mail."""

        @abstractmethod
        async def send_all(self, mails: list[Mail]) -> int: ...
'''


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Write a module that can be imported during a test, and return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = re.sub(r"\W", "_", f"contracts_of_{request.node.name}")

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_generator_takes_the_contract_of_another_role(write_module: Any, tmp_path: Path) -> None:
    name = write_module(MAILER)
    text = generator.generate_for([f"{name}:BulkMailerManager"])
    (tmp_path / "mailer_blocking.py").write_text(text, encoding="utf-8")
    generated = importlib.import_module("mailer_blocking")
    contract = importlib.import_module(name)

    assert dict(generated.CONTRACTS) == {
        generated.MailerManager: contract.MailerManager,
        generated.BulkMailerManager: contract.BulkMailerManager,
    }
    assert generated.MailerManager in generated.BulkMailerManager.__mro__
    assert blocking.Manager in generated.MailerManager.__mro__
    returns = {
        method: inspect.signature(getattr(generated.MailerManager, method)).return_annotation
        for method in ("send", "sent", "later", "watch", "archive", "count")
    }
    assert returns == {
        "send": "bool",
        "sent": "Iterator[Mail]",
        "later": "list[Mail]",
        "watch": "Iterator[Mail]",
        "archive": "DatabaseManager",
        "count": "int",
    }
    assert generated.DatabaseManager is blocking.DatabaseManager
    assert generated.RedisManager is blocking.RedisManager
    assert generated.MailerManager.__doc__ == "Sends mail."
    assert generated.MailerManager.send.__doc__ == 'Send a mail "now".'
    assert isinstance(inspect.getattr_static(generated.MailerManager, "sender"), property)
    assert inspect.signature(generated.MailerManager.send) == inspect.signature(contract.MailerManager.send)
    assert inspect.signature(generated.MailerManager.sent).parameters["limit"].default == contract.LIMIT
    assert not hasattr(generated.MailerManager, "_private")
    assert not hasattr(generated.BulkMailerManager, "start")


def test_generator_prints_a_module_for_other_contracts(write_module: Any, tmp_path: Path) -> None:
    name = write_module(MAILER)
    printed = subprocess.run(
        [sys.executable, "-m", "base04_hookspecs._generate_blocking", f"{name}:MailerManager"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == generator.generate_for([f"{name}:MailerManager"])
    assert printed.stderr == ""


def test_generator_refuses_what_is_no_contract() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "base04_hookspecs._generate_blocking", "collections:OrderedDict"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "'collections:OrderedDict' is not a contract" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("target", ["no_such_module:X", "collections:Nothing", ":X", "collections"])
def test_generator_names_a_target_that_cannot_be_imported(target: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write 'package\.module:Contract'"):
        generator.generate_for([target])


def test_generator_sends_known_contracts_to_their_module() -> None:
    with pytest.raises(ConfigurationError, match=r"base04_hookspecs\.blocking already"):
        generator.generate_for(["base04_hookspecs.redis:RedisManager"])


CONTRACT = """
    from contextlib import AbstractAsyncContextManager
    from collections.abc import AsyncIterable
    from functools import cache
    from base04_hookspecs import Manager

    class Odd(Manager):
        {method}
"""


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("def lock(self) -> AbstractAsyncContextManager[None]: ...", "a method that acquires and one that releases"),
        ("def all(self) -> AsyncIterable[int]: ...", "Return an AsyncIterator"),
        ("@cache\n        def size(self) -> int: ...", "The decorator @cache of Odd.size"),
        ("def size(self) -> 'Unknown': ...", "The name 'Unknown' in an annotation"),
    ],
)
def test_generator_refuses_what_has_no_blocking_form(write_module: Any, method: str, message: str) -> None:
    name = write_module(CONTRACT.format(method=method))
    with pytest.raises(ConfigurationError) as refused:
        generator.generate_for([f"{name}:Odd"])
    assert message in str(refused.value)
