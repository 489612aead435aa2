from __future__ import annotations

import hashlib
import os

from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.errors import Conflict
from base04_hookspecs.redis import RedisManager, key_name


async def open_account(
    user: str, mail: str, password: str, address: dict[str, str], plan: str, redis: RedisManager, context: ActionContext
) -> dict[str, str]:
    """Open an account; the password is kept as a hash alone."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
    account = {"mail": mail, "salt": salt.hex(), "hash": digest.hex(), "plan": plan}
    if not await redis.set(key_name("accounts", user), account, only_if_absent=True):
        raise Conflict(f"There is an account {user!r} already.")
    context.log.info("an account was opened", user=user, password=password)  # the log says password=***
    return {"user": user, "plan": plan, "country": address["country"]}


async def close_account(user: str, redis: RedisManager) -> bool:
    """Close an account."""
    return bool(await redis.delete(key_name("accounts", user)))
