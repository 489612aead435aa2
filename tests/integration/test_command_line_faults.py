"""`base04 actions validate`: everything that is wrong with action files."""

from __future__ import annotations

import json
from pathlib import Path

from serve_kit import run_base04, write

SETTINGS = "managers: {action_discovery: {folders: [actions]}}\n"
FAULTY = "pack: p\nversion: 1.0.0\nactions:\n  go:\n    sumary: x\n    handler: .gone:go\n"


def test_faults_are_listed_with_their_places(tmp_path: Path) -> None:
    write(tmp_path / "base04.yaml", SETTINGS)
    write(tmp_path / "actions" / "p.yaml", FAULTY)
    listed = run_base04("actions", "list", cwd=tmp_path)
    assert listed.returncode == 0
    assert "faults in action files: see `base04 actions validate`" in listed.stdout
    checked = run_base04("actions", "validate", cwd=tmp_path)
    assert checked.returncode == 1
    assert "actions/p.yaml:5:5: " in checked.stdout
    assert "'summary'" in checked.stdout
    faults = json.loads(run_base04("actions", "validate", "--json", cwd=tmp_path).stdout)["faults"]
    assert {fault["line"] for fault in faults} == {5, 6}


def test_no_faults_is_success(tmp_path: Path) -> None:
    checked = run_base04("actions", "validate", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "0 actions, no faults.\n")
