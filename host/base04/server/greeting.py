"""What a host says once it serves; the first time, with a key to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from base04.app_manager import AppManager


async def greeting(manager: AppManager, url: str) -> list[str]:
    """Say where the host serves and what it chose; the first time, with an API key that may do everything."""
    running = manager.generation.running.values()
    chosen = " ".join(f"{item.key}={item.node.choice.candidate.provider.name}" for item in running)
    plugins = sum(plugin.status == "enabled" for plugin in manager.discovery.plugins.values())
    failed = [plugin.name for plugin in manager.discovery.failed()]
    actions = len(manager.action_discovery_manager.catalogue()) if manager.generation.find("action_discovery") else 0
    lines = [
        f"Base04 serves {url}",
        f"  managers  {chosen}",
        f"  plugins   {plugins} take part, {actions} actions; data in {manager.data_dir}",
    ]
    if failed:
        lines.append(f"  failed    {', '.join(failed)}: see `base04 plugins`")
    key = await bootstrap_key(manager)
    if key is not None:
        lines.append(f"  admin key {key}  (shown this once; it may do everything: X-API-Key)")
    return lines


async def bootstrap_key(manager: AppManager) -> str | None:
    """Create an API key with all permissions where there has never been one."""
    from base04.http.api_keys import written_down
    from base04_hookspecs.api_key import ApiKeyManager

    keys = manager.generation.find("api_key")
    if not isinstance(keys, ApiKeyManager) or await keys.list_api_keys(limit=1, include_revoked=True):
        return None
    key = await keys.generate_api_key("admin", ["*"], name="bootstrap")
    await written_down(key, "api_key.created", keys, manager.audit)
    return key
