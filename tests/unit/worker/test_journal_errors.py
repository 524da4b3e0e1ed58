"""What the log says when a worker cannot write its journal."""

from __future__ import annotations

import resource
from pathlib import Path

import config_kit
from settlements import settlement
from structlog.testing import capture_logs

from edge_extproc.worker.main import open_journal


def test_the_log_names_the_reason_and_the_directory(tmp_path: Path) -> None:
    failures: list[None] = []
    config = config_kit.read("store: {}\n", tmp_path)
    journal = open_journal(config, 0, lambda: failures.append(None))
    assert journal is not None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with capture_logs() as events:
            journal.write(settlement(tenant="acme"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.close()

    (event,) = events
    assert [None] == failures
    assert ("journal_error", str(config.journal_dir())) == (event["event"], event["directory"])
    assert event["reason"] in ("File too large", "No space left on device")


def test_without_a_ledger_there_is_no_journal(tmp_path: Path) -> None:
    assert open_journal(config_kit.read("", tmp_path), 0, lambda: None) is None
    assert not (tmp_path / ".edge").exists()
