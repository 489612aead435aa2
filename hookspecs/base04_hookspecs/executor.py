"""The role ``executor``: who runs what need not be answered at once.

The host keeps every execution in the role ``database``: who asked for what, how far it is, how it ended. An executor
only brings it about that each is performed once there is room: in this process, or in another that runs a host on the
same database, told through a queue. What travels is a job, which is small and JSON; whoever takes it up calls
``perform`` with its id, and the host there claims the execution, runs the action and writes down how it ended. A job
may therefore be delivered more than once, or late: performing what has ended, was cancelled, or is being performed
elsewhere does nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider

Perform = Callable[[str], Awaitable[None]]
"""Perform the execution with an id in this process, to its end.

Cancelling it stops the action. It raises ``ManagerUnavailable`` where the execution could not even be looked up: the
job is then to be delivered again later.
"""


class ExecutionJob(TypedDict):
    """What an executor has to know of an execution. Of those that wait, higher priorities come first (-100 to 100)."""

    id: str
    action: str
    priority: int


class QueueStatus(TypedDict):
    """What an executor has to do: ``size`` is how many it performs at once at most, here or in all processes."""

    running: int
    waiting: int
    size: int


class ExecutorManager(Manager):
    """Performs executions, a bounded number at once.

    Capabilities: ``priorities`` (of those that wait, the highest priority is next, then the longest wait), ``durable``
    (what was submitted outlives this process; the host need not submit it again).
    """

    role: ClassVar[str] = "executor"

    durable: ClassVar[bool] = False
    """Whether what was submitted outlives this process."""

    @abstractmethod
    def bind(self, perform: Perform) -> None:
        """Take the way to perform executions in this process. The host calls it once, after start."""

    @abstractmethod
    async def submit(self, job: ExecutionJob) -> None:
        """Accept a job, to be performed when there is room. One that waits or runs already is not taken twice.

        Raises:
            ManagerUnavailable: too many wait already, or nothing is taken any more; nothing was accepted.
        """

    @abstractmethod
    async def cancel(self, execution_id: str) -> bool:
        """Drop a job that waits, or cancel what performs it; False where neither is known here.

        The host has noted the cancellation before it calls this, so a job that is taken up later does nothing.
        """

    @abstractmethod
    async def get_queue_status(self) -> QueueStatus:
        """Return how much there is to do."""

    @abstractmethod
    async def drain(self) -> None:
        """Take nothing more, and begin nothing that waits; what runs goes on. Called before the host stops."""


@hookspec
def executor_providers() -> Iterable[Provider]:
    """Offer providers of the role ``executor``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
