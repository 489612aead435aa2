"""Asking servers how they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from base04_builtin.redis.server.bus import Bus
from base04_builtin.redis.server.calls import Calls
from base04_builtin.redis.server.failures import Lost, NotSent, refusal, told
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.packing import pack
from base04_builtin.redis.server.settings import ServerRedisSettings
from base04_builtin.redis.server.topology import Topology
from base04_hookspecs.health import HealthReport, HealthStatus, health_report

_QUESTIONS: Final = (pack("PING"), pack("ROLE"), pack("INFO", "memory"))
_MIB: Final = 2**20


@dataclass(slots=True)
class _Finding:
    """What one server said, or why it did not."""

    node: Node
    failure: str | None = None
    seconds: float = 0.0
    role: str = "unknown"
    used_bytes: int = 0
    max_bytes: int = 0


async def inspect(topology: Topology, settings: ServerRedisSettings, calls: Calls, bus: Bus) -> HealthReport:
    """Report round trip, role, pool and memory of all servers that hold keys, and the state of subscriptions."""
    deadline = asyncio.get_running_loop().time() + min(settings.timeout, 2 * settings.reply_timeout)
    findings = await _ask_all(topology, deadline)
    if not findings or any(one.failure is not None for one in findings):
        await calls.heal(None, deadline)
        findings = await _ask_all(topology, deadline) or findings
    if not findings:
        return health_report("unhealthy", "no server is known", errors=calls.errors)
    nodes = [one.node for one in findings]
    busy = sum(node.busy for node in nodes)
    full = [str(node) for node in nodes if node.busy >= node.size]
    status, faults = _judged(findings, full, bus.silent)
    answering = [one for one in findings if one.failure is None]
    return health_report(
        status,
        "; ".join([*faults, *map(_described, answering)]),
        connections=sum(node.connections for node in nodes) + bus.connections,
        errors=calls.errors + bus.subscriptions.failures,
        response_time=max((one.seconds for one in answering), default=0.0),
        nodes=len(nodes),
        nodes_answering=len(answering),
        connections_busy=busy,
        connections_allowed=sum(node.size for node in nodes),
        used_memory_bytes=sum(one.used_bytes for one in answering),
        max_memory_bytes=sum(one.max_bytes for one in answering),
        subscribers=len(bus.subscriptions),
        silent_channels=bus.silent,
        dropped_messages=bus.subscriptions.dropped,
        outages=bus.outages,
    )


async def _ask_all(topology: Topology, deadline: float) -> list[_Finding]:
    try:
        nodes = topology.masters()
    except NotSent:
        return []
    return await asyncio.gather(*(_ask(node, deadline) for node in nodes))


async def _ask(node: Node, deadline: float) -> _Finding:
    finding = _Finding(node)
    began = asyncio.get_running_loop().time()
    try:
        pong, role, memory = await node.exchange_many(_QUESTIONS, deadline)
    except (NotSent, Lost, RedisError) as error:
        finding.failure = refusal(error) or told(error)
        return finding
    finding.seconds = asyncio.get_running_loop().time() - began
    if pong != b"PONG":
        finding.failure = told(pong) if isinstance(pong, Exception) else "it answers with something else"
    if isinstance(role, list) and role:
        finding.role = role[0].decode()
    if isinstance(memory, bytes):
        _take_memory(finding, memory)
    return finding


def _take_memory(finding: _Finding, described: bytes) -> None:
    values: dict[str, Any] = dict(
        line.split(":", 1) for line in described.decode(errors="replace").splitlines() if ":" in line
    )
    finding.used_bytes = int(values.get("used_memory", 0))
    finding.max_bytes = int(values.get("maxmemory", 0))


def _judged(findings: list[_Finding], full: list[str], silent: int) -> tuple[HealthStatus, list[str]]:
    faults = [f"{one.node} does not answer: {one.failure}" for one in findings if one.failure is not None]
    faults += [f"{one.node} is a {one.role}" for one in findings if one.role in ("slave", "sentinel")]
    faults += [f"all connections to {node} are in use" for node in full]
    if silent:
        faults.append(f"{silent} channels are not heard")
    if all(one.failure is not None for one in findings):
        return "unhealthy", faults
    return ("degraded" if faults else "healthy"), faults


def _described(finding: _Finding) -> str:
    allowed = f" of {finding.max_bytes / _MIB:.0f}" if finding.max_bytes else ""
    return (
        f"{finding.node}: {finding.role}, {finding.seconds * 1000:.1f} ms, "
        f"{finding.node.busy} of {finding.node.size} connections in use, "
        f"{finding.used_bytes / _MIB:.1f}{allowed} MiB of memory"
    )
