"""What the distribution offers to the host."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import yaml
from base04_mailer import MailerManager
from base04_mailer.handlers import send
from base04_mailer.outbox import OutboxMailerManager, OutboxSettings

from base04_hookspecs import Manager, Provider


def offered() -> dict[str, Provider]:
    (found,) = [each for each in entry_points(group="base04.plugins") if each.name == "mailer"]
    return {provider.name: provider for provider in found.load().extra_providers()}


def test_providers_name_the_role_and_their_classes_keep_its_contract() -> None:
    providers = offered()
    assert {name: provider.default for name, provider in providers.items()} == {"outbox": True, "smtp": False}
    for provider in providers.values():
        assert provider.role == MailerManager.role == "mailer"
        module, _, name = provider.target.partition(":")
        implementation = getattr(import_module(module), name)
        assert issubclass(implementation, MailerManager)
        assert issubclass(implementation, Manager)


def test_capabilities_are_what_providers_have() -> None:
    for provider in offered().values():
        module, _, name = provider.target.partition(":")
        has = getattr(import_module(module), name).list_outbox is not MailerManager.list_outbox
        assert ("outbox" in provider.capabilities) == has


def test_listing_the_plugin_imports_no_provider() -> None:
    code = (
        "import sys, base04_mailer.plugin as p; list(p.extra_providers()); "
        "sys.exit(any(m in sys.modules for m in ('base04_mailer.smtp', 'base04_mailer.outbox', 'smtplib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_action_pack_is_where_the_entry_point_says() -> None:
    (found,) = [each for each in entry_points(group="base04.actions") if each.name == "mailer"]
    pack = yaml.safe_load((files(found.value) / "mailer.yaml").read_text())
    action = pack["actions"]["send"]
    assert (pack["pack"], action["access"]) == ("mailer", {"permissions": ["mail.send"]})
    module, _, name = action["handler"].partition(":")
    assert getattr(import_module(module), name) is send


async def test_action_sends_through_the_role(tmp_path: Path) -> None:
    mailer = OutboxMailerManager(OutboxSettings(folder=tmp_path))
    await mailer.start()
    sent = await send("bob@example.org", "Hello", "text", mailer)
    assert [entry["message_id"] for entry in await mailer.list_outbox()] == [sent["message_id"]]
