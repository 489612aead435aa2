"""A generated module: the blocking form of some contracts."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from base04_hookspecs._generate_blocking.imports import Imports, Origin
from base04_hookspecs._generate_blocking.signatures import Function, changed_return, decorators, layout, summary
from base04_hookspecs._generate_blocking.source import ModuleSource, module_source
from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.manager import Manager

HOST_ONLY: Final[Mapping[str, str]] = {
    "Manager.own_to_process": "the host asks it of the class",
    "Manager.start": "the host starts managers",
    "Manager.stop": "the host stops managers",
    "Manager.take_over": "the host calls it when an instance takes the place of another",
    "HooksManager.take_over": "as Manager.take_over",
    "ServicesManager.take_over": "as Manager.take_over",
    "StateManager.take_over": "as Manager.take_over",
    "ActionDiscoveryManager.catalogue": "the host's pipeline runs actions from it; programs have run_action",
    "JWTManager.watch_revocations": "it calls back on the host's loop",
    "WebSocketManager.handle": "the host hands connections over, as an ASGI server does",
    "WebSocketManager.bind": "the host calls it once, after start",
    "WebSocketManager.bind_authorizers": "the host calls it once, after start",
    "WebSocketManager.drain": "the host calls it before it stops",
}
"""The methods that blocking contracts leave out, and why."""

_ROOTS: Final = ("builtins", "abc", "typing")


class BlockingModule:
    """Writes a module with the blocking form of ``contracts``; ``known`` are those that ``blocking.py`` has."""

    def __init__(self, contracts: Sequence[type], first_party: str, known: Collection[type] = ()) -> None:
        self._contracts = contracts
        self._known = known
        self._imports = Imports(first_party)

    def render(self, docstring: str) -> str:
        """Return the source of the module, formatted as ruff formats it.

        Raises:
            ConfigurationError: something in a contract has no blocking form.
        """
        body = "\n\n".join([*(self._contract(contract) for contract in self._contracts), self._table()])
        return (
            f'"""{docstring}"""\n\n# mypy: disable-error-code="type-abstract"\n'
            "# CONTRACTS holds abstract classes to compare with, never to make one.\n\n"
            f"from __future__ import annotations\n\n{self._imports.render()}\n\n\n{body}"
        )

    def _contract(self, contract: type) -> str:
        node = module_source(contract.__module__).class_named(contract.__name__)
        self._imports.add("Protocol", Origin("typing", "Protocol"))
        bases = [base for base in contract.__bases__ if self._is_contract(base)]
        for base in bases:
            self._use_contract(base)
        head = f"class {contract.__name__}({', '.join([*(base.__name__ for base in bases), 'Protocol'])}):"
        text = ast.get_docstring(node) or f"The blocking form of {contract.__module__}.{contract.__name__}."
        methods = "".join(f"\n{method}\n" for method in self._methods(contract))
        return f"{head}\n{summary(text, '    ')}\n{methods}"

    def _is_contract(self, owner: type) -> bool:
        return owner in self._contracts or owner in self._known

    def _methods(self, contract: type) -> Iterator[str]:
        """Write what a contract adds to those that it derives from, the methods of its mix-ins included."""
        written = {name for base in contract.__bases__ if self._is_contract(base) for name in dir(base)}
        for owner in contract.__mro__:
            if owner.__module__ in _ROOTS or (owner is not contract and self._is_contract(owner)):
                continue
            source = module_source(owner.__module__)
            own = [node for node in source.class_named(owner.__name__).body if isinstance(node, Function)]
            for node in own:
                where = f"{owner.__name__}.{node.name}"
                hidden = node.name.startswith("_") or where in HOST_ONLY
                if not hidden and (owner is contract or node.name not in written):
                    yield self._method(node, source, where)
            written.update(node.name for node in own)

    def _method(self, node: Function, source: ModuleSource, where: str) -> str:
        marks = "".join(f"    @{name}\n" for name in decorators(node, where))
        head = layout(node.name, list(self._parameters(node.args, source)), self._returns(node, source))
        docstring = ast.get_docstring(node)
        return f"{marks}{head}" + (f"\n{summary(docstring, ' ' * 8)}" if docstring else " ...")

    def _returns(self, node: Function, source: ModuleSource) -> str:
        if node.returns is None:
            return ""
        changed = changed_return(node, node.returns)
        if changed is None:
            return f" -> {self._annotation(node.returns, source)}"
        self._use_names(changed, source)
        return f" -> {ast.unparse(changed)}"

    def _parameters(self, args: ast.arguments, source: ModuleSource) -> Iterator[str]:
        positional = [*args.posonlyargs, *args.args]
        required = [None] * (len(positional) - len(args.defaults))
        for index, (arg, default) in enumerate(zip(positional, [*required, *args.defaults], strict=True), start=1):
            yield self._parameter(arg, default, source)
            if index == len(args.posonlyargs):
                yield "/"
        if args.vararg is not None:
            yield "*" + self._parameter(args.vararg, None, source)
        elif args.kwonlyargs:
            yield "*"
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            yield self._parameter(arg, default, source)
        if args.kwarg is not None:
            yield "**" + self._parameter(args.kwarg, None, source)

    def _parameter(self, arg: ast.arg, default: ast.expr | None, source: ModuleSource) -> str:
        text = arg.arg
        if arg.annotation is not None:
            text += f": {self._annotation(arg.annotation, source)}"
        if default is not None:
            self._use_names(default, source)
            text += (" = " if arg.annotation is not None else "=") + source.segment(default)
        return text

    def _annotation(self, node: ast.expr, source: ModuleSource) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._use_names(ast.parse(node.value, mode="eval"), source)
            return node.value
        self._use_names(node, source)
        return source.segment(node)

    def _use_names(self, node: ast.AST, source: ModuleSource) -> None:
        for name in sorted({child.id for child in ast.walk(node) if isinstance(child, ast.Name)}):
            self._use(name, source)

    def _use(self, name: str, source: ModuleSource) -> None:
        origin, contract = source.origins.get(name), self._contract_called(name, source)
        if contract is not None:
            self._use_contract(contract)
        elif origin is not None:
            self._imports.add(name, origin)
        elif name == "Iterator":
            self._imports.add(name, Origin("collections.abc", name))
        elif not hasattr(builtins, name):
            raise ConfigurationError(
                f"The name {name!r} in an annotation is neither imported nor defined at the top level of "
                f"{source.name!r}: import it there by name."
            )

    def _contract_called(self, name: str, source: ModuleSource) -> type | None:
        """Return the contract that a name stands for, also where it is imported for type checking alone."""
        value, origin = source.namespace.get(name), source.origins.get(name)
        for contract in chain(self._contracts, self._known):
            if value is contract or (
                origin is not None and (origin.module, origin.name) == (contract.__module__, contract.__name__)
            ):
                return contract
        return None

    def _use_contract(self, contract: type) -> None:
        if contract not in self._contracts:
            self._imports.add(contract.__name__, Origin("base04_hookspecs.blocking", contract.__name__))

    def _table(self) -> str:
        for name, module in (("Mapping", "collections.abc"), ("MappingProxyType", "types"), ("Final", "typing")):
            self._imports.add(name, Origin(module, name))
        self._imports.add("manager", Origin("base04_hookspecs", "manager"))
        entries = "".join(
            f"        {contract.__name__}: {self._module_of(contract)}.{contract.__name__},\n"
            for contract in self._contracts
            if issubclass(contract, Manager) and contract is not Manager
        )
        return (
            "CONTRACTS: Final[Mapping[type, type[manager.Manager]]] = MappingProxyType(\n"
            f"    {{\n{entries}    }}\n)\n"
            '"""For each blocking contract of a manager the contract of the role."""\n'
        )

    def _module_of(self, contract: type) -> str:
        package, _, module = contract.__module__.rpartition(".")
        self._imports.add(module, Origin(package, module) if package else Origin(module, None))
        return module
