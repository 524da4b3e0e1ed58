"""Where the admin pages are on, and which configurations with them are mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config import extras
from edge_extproc.config.load import default, default_text, parse
from edge_extproc.errors import ConfigError

BASE = """
callers: [{tenant: acme, keys: [{id: one, key: a-key-of-the-tests-alone}]}]
auth: {pepper: a-pepper-of-the-tests}
providers: {one: {kind: openai, api_key: sk-x}}
models: {"*": [{provider: one}]}
"""
TOKENS = "tokens: [{id: root, role: admin, token: a-token-of-the-tests}]"
ROLES = "roles: {watchers: {admin: [viewer]}}"


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        ("port: 10001", False),
        (TOKENS, True),
        (f"{TOKENS}, address: '::1'", True),
        (f"{TOKENS}, address: 0.0.0.0", False),
        (f"{TOKENS}, address: 0.0.0.0, pages: true", True),
        (f"{TOKENS}, pages: false", False),
        ("pages: true", True),
    ],
)
def test_the_pages_are_on_by_themselves_only_where_nobody_else_reaches_them(admin: str, expected: bool) -> None:
    config = parse(f"{BASE}store: {{}}\nadmin: {{{admin}}}\n", "edge.yaml")

    assert expected == config.admin.has_pages
    assert (expected or "tokens" in admin) == config.has_admin_api


@pytest.mark.parametrize(
    ("more", "mistake"),
    [
        ("admin: {pages: true}\n", "the admin pages need a database; add store: {}"),
        ("store: {}\nadmin: {pages: true, address: 0.0.0.0}\n", "nobody could sign in; add admin.tokens"),
    ],
)
def test_pages_that_nobody_could_use_are_a_mistake(more: str, mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake):
        parse(BASE + more, "edge.yaml")


def test_a_callers_role_is_enough_to_sign_in() -> None:
    more = f"{ROLES}\nstore: {{}}\nadmin: {{pages: true, address: 0.0.0.0}}\n"

    assert parse(BASE + more, "edge.yaml").admin.has_pages


def test_pages_without_tokens_name_the_extra_that_they_need() -> None:
    config = parse(f"{BASE}store: {{}}\nadmin: {{pages: true}}\n", "edge.yaml")

    assert ("admin.pages", extras.ADMIN) in list(extras.needed(config))
    assert "jinja2" in extras.ADMIN.modules


def test_the_defaults_have_pages_where_they_are_installed(tmp_path: Path) -> None:
    for name in ("dev-key", "pepper", "admin-token"):
        (tmp_path / name).write_text(f"a-{name}-of-the-tests-alone")
    shown, hidden = (default({}, tmp_path, rehearsal_port=9, pages=pages) for pages in (True, False))

    assert (True, True) == (shown.admin.has_pages, shown.store is not None)
    assert (False, False) == (hidden.admin.has_pages, hidden.store is not None)
    assert "a-admin-token" not in default_text({}, tmp_path, rehearsal_port=9, pages=True)
