"""`edge-extproc migrate`: the ledger's database, before or beside the agents that use it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from edge_extproc.cli import app
from edge_extproc.errors import exit_code

TEXT = """
agent: {{state_dir: "{state}"}}
auth: {{pepper: a-pepper-of-the-tests}}
callers: [{{tenant: acme, keys: [{{id: a, key: edge-a-key-of-the-tests}}]}}]
providers: {{openai: {{kind: openai, api_key: k}}}}
models: {{"*": [{{provider: openai}}]}}
{more}
"""


def migrate(tmp_path: Path, more: str) -> int:
    path = tmp_path / "edge.yaml"
    path.write_text(TEXT.format(state=tmp_path / "state", more=more))
    return exit_code(lambda: app(("migrate", "--config", str(path)), result_action="return_value"))


def test_it_creates_the_tables_and_does_nothing_more_the_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ledger.db"
    more = f'store: {{database: "sqlite:///{file}"}}'

    assert [0, 0] == [migrate(tmp_path, more) for _ in range(2)]
    assert 2 == capsys.readouterr().out.count("the database has the newest schema")
    engine = create_engine(f"sqlite:///{file}")
    assert {"usage", "alembic_version"} <= set(inspect(engine).get_table_names())
    engine.dispose()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "has no ledger; add store: {}"),
        ('store: {database: "sqlite:////no/such/directory/ledger.db"}', "the database cannot be used"),
    ],
)
def test_it_fails_without_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, said: str) -> None:
    assert 1 == migrate(tmp_path, more)
    assert said in capsys.readouterr().err
