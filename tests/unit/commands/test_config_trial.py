"""A pasted configuration is checked as by `check`, and replayed against a ledger."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edge_extproc.cli import app
from edge_extproc.commands.config_trial import run
from edge_extproc.errors import exit_code
from edge_extproc.model.config_trial import ConfigTrial
from edge_extproc.store.database import open_database
from edge_extproc.store.journal import LedgerRow
from edge_extproc.store.ledger import Ledger

TEXT = """
auth: {pepper: a pepper for tests alone}
agent: {state_dir: STATE}
store: {}
callers: [{tenant: acme, keys: [{id: acme-1, key: edge-test-key-of-tenant-acme}]}]
providers: {openai: {kind: openai, api_key: sk-of-the-provider}}
models: {small: [{provider: openai, model: gpt-4o-mini}]}
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    return TEXT.replace("STATE", str(tmp_path))


@pytest.fixture
def database(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'edge.db'}"
    ledger = Ledger(open_database(url))
    now = int(time.time() * 1000)
    places = {
        "tenant": "acme",
        "key": "acme-1",
        "model": "small",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
    }
    for n, age in enumerate((1000, 2000, 48 * 3_600_000)):
        ledger.add([LedgerRow(f"e{n}", now - age, 9, "ok", attempts=1, input=1000, cost=150_000_000, **places)])
    ledger.close()
    return url


def trial(text: str, tmp_path: Path, **more: object) -> ConfigTrial:
    return ConfigTrial(text, "the pasted text", str(tmp_path), str(tmp_path), **more)  # type: ignore[arg-type]


def test_mistakes_are_those_of_check_and_no_secret_is_repeated(text: str, tmp_path: Path) -> None:
    wrong = text.replace("kind: openai,", "kind: openal,") + "nothing: 1\n"
    result = run(trial(wrong, tmp_path))

    assert 2 == len(result.errors)
    assert all(line.startswith("the pasted text:") for line in result.errors)
    assert "sk-of-the-provider" not in repr(result)
    assert result.report is None


def test_a_valid_text_says_what_differs_and_what_needs_a_restart(text: str, tmp_path: Path) -> None:
    new = text.replace("store: {}", "store: {}\nadmin: {port: 10009}").replace("gpt-4o-mini", "gpt-4o")
    result = run(trial(new, tmp_path, current=text))

    assert ([], True) == (result.errors, (result.rendering or "").startswith("valid"))
    assert {"admin.port", "models.small.candidates"} == set(result.differences)
    assert ["admin.port"] == result.needs_restart


def test_the_ledger_of_the_time_is_replayed(text: str, tmp_path: Path, database: str) -> None:
    new = text.replace("id: acme-1", "id: acme-2")
    since = int((time.time() - 3600) * 1000)
    report = run(trial(new, tmp_path, current=text, since_ms=since, database=database)).report

    assert report is not None
    assert (2, 2, "0.0003") == (report["requests"], report["refused"], report["cost_before"])


def test_the_command_prints_the_report(
    text: str, tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(text)
    new.write_text(text.replace("id: acme-1", "id: acme-2"))
    command = ["replay", "--config", str(new), "--current", str(old), "--since"]
    assert 0 == exit_code(lambda: app([*command, "168h"], result_action="return_value"))
    table = capsys.readouterr().out
    assert 0 == exit_code(lambda: app([*command, "1h", "--format", "json"], result_action="return_value"))
    report = json.loads(capsys.readouterr().out)
    assert 1 == exit_code(lambda: app([*command, "soon"], result_action="return_value"))

    assert "3 requests, 3 replayed, 0 unclear: 3 would be refused" in table
    assert "there is no key acme-1" in table
    assert "What a replay cannot know" in table
    assert 2 == report["refused"]
    assert "--since" in capsys.readouterr().err
