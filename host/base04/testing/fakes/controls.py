"""What a test can do with a fake: look up calls, let them fail, take the backend away."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.health import health_report
from base04_hookspecs.manager import Manager

_ON: Final = frozenset({"start", "stop", "take_over", "drain"})
"""What goes on while the backend is away: the host's own calls."""

_SAY_SO: Final[Mapping[str, Callable[[], Any]]] = {
    "ping": lambda: False,
    "check_connection": lambda: False,
    "health_check": lambda: health_report("unhealthy", "The test has taken the backend away.", errors=1),
}
"""What never raises, and tells that the backend is away."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method, with the arguments that were given, by their names."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Failure:
    error: BaseException | type[BaseException]
    after: bool
    times: int

    def make(self) -> BaseException:
        if isinstance(self.error, type):
            return self.error("The test asked for this failure.")
        return self.error


class _Control:
    """What all views of one fake share."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failures: defaultdict[str, list[_Failure]] = defaultdict(list)
        self.away = 0

    def next_failure(self, method: str) -> _Failure | None:
        waiting = self.failures[method]
        if not waiting:
            return None
        failure = waiting[0]
        failure.times -= 1
        if failure.times == 0:
            waiting.pop(0)
        return failure


class Fake:
    """A manager of a role in front of the embedded one. Beside what follows it has the methods of its contract."""

    _contract: type[Manager]

    def __init__(
        self, real: Manager, capabilities: frozenset[str] = frozenset(), behind: Mapping[str, Manager] | None = None
    ) -> None:
        self._real = real
        self._control = _Control()
        self.capabilities = capabilities
        """The optional parts of the contract that it has."""
        self.behind: Mapping[str, Manager] = dict(behind or {})
        """The managers that it is built on, by role: neither noted nor failing."""

    @property
    def calls(self) -> list[Call]:
        """All calls until now, in their order, those that failed too."""
        return self._control.calls

    def called(self, method: str) -> list[Mapping[str, Any]]:
        """Return the arguments of each call of a method.

        Raises:
            AttributeError: the contract has no such method.
        """
        self._check(method)
        return [call.arguments for call in self._control.calls if call.method == method]

    def forget_calls(self) -> None:
        """Begin to note calls anew."""
        self._control.calls.clear()

    def fail_next(
        self, method: str, error: BaseException | type[BaseException], *, times: int = 1, after: bool = False
    ) -> None:
        """Let the next calls of a method raise, in the order in which failures were asked for.

        Args:
            method: its name.
            error: what is raised, or its class.
            times: how many calls.
            after: whether the call has had its effect by then, as when a reply is lost (``OutcomeUnknown``).

        Raises:
            AttributeError: the contract has no such method.
        """
        self._check(method)
        if times < 1:
            raise ValueError(f"{times} calls cannot fail: give a number from 1 on.")
        self._control.failures[method].append(_Failure(error, after, times))

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        """Take the backend away inside a ``with`` block.

        Calls raise ``ManagerUnavailable``; ``health_check``, ``ping`` and ``check_connection`` tell it.
        """
        self._control.away += 1
        try:
            yield
        finally:
            self._control.away -= 1

    def _check(self, method: str) -> None:
        known = methods_of(self._contract)
        if method not in known:
            close = difflib.get_close_matches(method, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(sorted(known))}."
            raise AttributeError(f"{self._contract.__name__} has no method {method!r}.{hint}")

    def _begin(self, method: str, arguments: Mapping[str, Any]) -> _Failure | None:
        """Note a call, and raise what it is to raise at once."""
        self._control.calls.append(Call(method, arguments))
        failure = self._control.next_failure(method)
        if failure is not None and not failure.after:
            raise failure.make()
        return failure

    def _end(self, result: Any, failure: _Failure | None) -> Any:
        if failure is not None:
            raise failure.make()
        if result is self._real:
            return self
        if not isinstance(result, self._contract):
            return result
        view: Any = object.__new__(type(self))  # such as a read-only view: calls and failures are those of the fake
        vars(view).update({**vars(self), "_real": result})
        return view

    def _refuse_while_away(self, method: str) -> None:
        if self._control.away and method not in _ON:
            raise ManagerUnavailable(f"The test has taken the backend of {self._contract.role!r} away.")


@functools.cache
def methods_of(contract: type[Manager]) -> Mapping[str, Callable[..., Any]]:
    """Return the methods of a contract by name."""
    found: dict[str, Callable[..., Any]] = {}
    for cls in reversed(contract.__mro__):
        if issubclass(cls, Manager):
            methods = {name: item for name, item in vars(cls).items() if inspect.isfunction(item) and name[0] != "_"}
            found |= methods
    return found


@functools.cache
def fake_class(contract: type[Manager]) -> type[Any]:
    """Return the class of fakes of a contract: a ``Fake`` and a manager of the contract."""
    name = f"Fake{contract.__name__.removesuffix('Manager')}"
    body: dict[str, Any] = {method: _intercepted(item) for method, item in methods_of(contract).items()}
    body |= {"_contract": contract, "__module__": "base04.testing.fakes", "__doc__": f"A fake of ``{contract.role}``."}
    return types.new_class(name, (Fake, contract), exec_body=lambda namespace: namespace.update(body))


def _intercepted(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that notes the call and fails where it should, or else asks the real manager."""
    name, signature = method.__name__, inspect.signature(method)

    def given(fake: Fake, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(signature.bind(fake, *args, **kwargs).arguments)
        del arguments["self"]
        return arguments

    def passed_on(args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(item._real if isinstance(item, Fake) else item for item in args)

    @functools.wraps(method)
    def intercepted(self: Fake, /, *args: Any, **kwargs: Any) -> Any:
        failure = self._begin(name, given(self, args, kwargs))
        self._refuse_while_away(name)
        return self._end(getattr(self._real, name)(*passed_on(args), **kwargs), failure)

    @functools.wraps(method)
    async def intercepted_async(self: Fake, /, *args: Any, **kwargs: Any) -> Any:
        failure = self._begin(name, given(self, args, kwargs))
        if self._control.away and name in _SAY_SO:
            return _SAY_SO[name]()
        self._refuse_while_away(name)
        return self._end(await getattr(self._real, name)(*passed_on(args), **kwargs), failure)

    chosen: Any = intercepted_async if inspect.iscoroutinefunction(method) else intercepted
    vars(chosen).pop("__isabstractmethod__", None)
    return chosen  # type: ignore[no-any-return]  # it is one of two functions
