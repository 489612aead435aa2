import asyncio

from base04 import AppManager
from base04_hookspecs.errors import Conflict, VersionConflict
from base04_hookspecs.state import StateChange

sent: asyncio.Queue[str] = asyncio.Queue()


async def send_invoice(change: StateChange) -> None:
    """Act on a change once, however often it is delivered: remember the event id with what was done."""
    if change["transition"] == "ship":
        await sent.put(f"invoice {change['event_id']} for {change['state_id']}")


async def main() -> dict[str, object]:
    """Ship an order, and tell what came of it."""
    async with AppManager({"data_dir": "orders-data"}, only=["state"]) as app:
        states = app.get_state_manager()
        await states.register_transitions("order", {"ship": {"active": "shipped"}})
        await states.register_callback("order_*", send_invoice, name="invoices")

        await states.register_state("order_7", "order", {"total": 12}, ["update", "ship"], ttl=86400)
        order = await states.get_state("order_7")
        assert order is not None
        try:
            await states.update_state("order_7", {"total": 13}, expected_version=order["version"])
            await states.update_state("order_7", {"total": 14}, expected_version=order["version"])
        except VersionConflict as error:
            stale = str(error)
        await states.update_state("order_7", {}, "ship")
        try:
            await states.update_state("order_7", {}, "ship")
        except Conflict as error:
            refused = str(error)
        watch = states.watch("order_7", from_version=1)
        seen = [(await anext(watch))["transition"] for _ in range(2)]
        return {"stale": stale, "refused": refused, "seen": seen, "sent": await sent.get()}


if __name__ == "__main__":
    asyncio.run(main())
