"""The handlers of visits.yaml."""

from base04_hookspecs.redis import RedisManager


async def count(by: int, redis: RedisManager) -> dict[str, int]:
    """Count so many visits."""
    return {"visits": await redis.incr("visits", by)}


async def reset(redis: RedisManager) -> bool:
    """Forget the count."""
    return await redis.delete("visits") == 1
