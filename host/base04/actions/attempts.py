"""Calling a handler again that did not succeed."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from base04.actions.failures import PASSED_ON
from base04.actions.worker_pool import CallTimeout
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown
from base04_hookspecs.host_hooks import ActionCall
from base04_hookspecs.run_policy import RetryCause, RetryPolicy

Once = Callable[[dict[str, Any]], Awaitable[Any]]


async def with_retries(policy: RetryPolicy, call: ActionCall, once: Once) -> Any:
    """Call a handler until it succeeds, or may not be tried again; each attempt gets its own copy of the arguments.

    Raises:
        BaseException: what the last attempt raised.
    """
    for attempt in range(1, policy.attempts):
        try:
            return await once(copy.deepcopy(call.args))
        except Exception as error:
            cause = _cause(error)
            if cause is None or cause not in policy.when:
                raise
            wait_s = _wait(policy, attempt, error)
            structlog.get_logger().warning(
                "action is tried again",
                action=call.action["name"],
                request_id=call.request.request_id,
                attempt=attempt,
                cause=cause,
                wait_s=round(wait_s, 3),
                error=repr(error),
            )
        await asyncio.sleep(wait_s)
    return await once(copy.deepcopy(call.args))


def _cause(error: Exception) -> RetryCause | None:
    if isinstance(error, ManagerUnavailable):
        return "unavailable"
    if isinstance(error, CallTimeout):
        return "timeout"
    if isinstance(error, OutcomeUnknown):
        return "outcome-unknown"
    return None if isinstance(error, PASSED_ON) else "failed"


def _wait(policy: RetryPolicy, attempt: int, error: Exception) -> float:
    longest = policy.wait_after(attempt)
    wait_s = longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
    if isinstance(error, ManagerUnavailable):
        wait_s = max(wait_s, min(error.retry_after, policy.max_delay))
    return wait_s
