from __future__ import annotations

import sys
from dataclasses import dataclass

from base04.client import ActionsClient
from base04_hookspecs.errors import InvalidInput


@dataclass
class Account:
    user: str
    plan: str
    country: str


def open_account(url: str, api_key: str, user: str) -> Account:
    """Open an account; sent again under its key, the request opens no second one."""
    args = {"user": user, "mail": f"{user}@example.org", "password": "correct horse", "address": {"city": "Berlin"}}
    with ActionsClient(url, api_key=api_key) as client:
        return client.run("accounts.open", args, returns=Account, key=f"open {user}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{open_account(*sys.argv[1:])}\n")
    except InvalidInput as error:
        sys.exit("\n".join(f"{fault.pointer}: {fault.message}" for fault in error.faults))
