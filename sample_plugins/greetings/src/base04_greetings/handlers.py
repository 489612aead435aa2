"""What the actions of the pack do."""

from __future__ import annotations

from base04_hookspecs import blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.redis import RedisManager, key_name


async def greet(name: str, times: int) -> dict[str, str]:
    """Greet someone, once or several times."""
    return {"message": " ".join([f"Hello, {name}!"] * times)}


def visit(name: str, redis: blocking.RedisManager) -> dict[str, str | int]:
    """Count a visit. A plain ``def`` runs in a thread, so it takes the manager's blocking type."""
    visits = redis.incr(_visits_key(name))
    return {"message": f"Hello, {name}! This is visit number {visits}.", "visits": visits}


async def forget(name: str, redis: RedisManager, context: ActionContext) -> dict[str, bool]:
    """Forget the visits of somebody. An ``async def`` takes the manager itself."""
    forgotten = await redis.delete(_visits_key(name))
    context.log.info("visits forgotten", forgotten=forgotten)
    return {"forgotten": forgotten}


def _visits_key(name: str) -> str:
    return key_name("greetings", "visits", name)
