"""docs/profiles.md says what the tables say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edge_extproc.dialects.bedrock_converse.models import family_of
from edge_extproc.dialects.openai_chat.models import effort_for

DOCS = Path(__file__).resolve().parents[3] / "docs"
_spec = importlib.util.spec_from_file_location("profiles_page", DOCS / "profiles.py")
assert _spec is not None
assert _spec.loader is not None
profiles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(profiles)


def test_the_page_is_up_to_date() -> None:
    assert profiles.page() == (DOCS / "profiles.md").read_text("utf-8"), "run make docs"


def test_a_pro_and_a_codex_model_are_asked_what_they_take() -> None:
    assert "high" == effort_for("gpt-5-pro", "low")
    assert "low" == effort_for("gpt-5-codex", "minimal")
    assert "minimal" == effort_for("gpt-5", "minimal")
    assert None is effort_for("gpt-5-codex", "none")


def test_a_claude_that_caches_for_some_accounts_alone_gets_no_cache_marks() -> None:
    assert frozenset() == family_of("anthropic.claude-3-5-sonnet-20241022-v2:0").caches
    assert frozenset({"system", "messages", "tools"}) == family_of("anthropic.claude-3-5-haiku-20241022-v1:0").caches
