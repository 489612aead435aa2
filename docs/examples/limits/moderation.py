"""A handler that bans who is reported."""

from base04_hookspecs.rate_limiter import RateLimiterManager


async def report(limiter: RateLimiterManager, address: str, why: str) -> dict[str, object]:
    before = await limiter.get_rate_limit_info(address, "ip")
    await limiter.ban_identifier(address, duration=3600, reason=why)
    return {"remaining": before["remaining"], "banned_before": before["banned"]}
