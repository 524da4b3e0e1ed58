"""What config says of roles and policies, and what comes of it."""

from __future__ import annotations

import pytest
from config_kit import ENVIRON, mistake, read

from edge_extproc.build_access import build_access, build_authenticator

ROLES = """
roles:
  analyst: {models: [m], features: [images], max_tokens: 100, operations: [chat], admin: [viewer]}
  open: {}
callers:
  - tenant: acme
    policy: {providers: [p]}
    users: [{name: ann, policy: {regions: [eu]}}]
    keys: [{id: a, key: {env: KEY}, roles: [analyst], team: research, user: ann, policy: {models: ["m*"]}}]
"""


def test_a_key_stands_for_its_team_user_and_roles() -> None:
    config = read(ROLES)
    principal = build_authenticator(config).authenticate([("authorization", f"Bearer {ENVIRON['KEY']}")])
    access = build_access(config)
    assert access is not None
    rights = access.of(principal)

    assert ("acme", "a", "research", "ann", ("analyst",)) == (
        principal.tenant,
        principal.key_id,
        principal.team,
        principal.user,
        principal.roles,
    )
    assert rights is not None
    assert ({"viewer"}, True, False) == (rights.admin, rights.may_list("m"), rights.may_list("n"))


def test_without_roles_and_policies_nothing_is_asked() -> None:
    assert build_access(read("")) is None
    assert build_access(read("roles: {open: {}}")) is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROLES.replace("[analyst]", "[analyst, nobody]"), "there is no role 'nobody'; have analyst, open"),
        (ROLES.replace("[images]", "[magic]"), "this is none of tools, images"),
        (ROLES.replace("[chat]", "[dance]"), "there is no such operation; have chat"),
        (ROLES.replace("[viewer]", "[root]"), "this is none of viewer, tenant_admin, admin"),
    ],
)
def test_a_mistake_says_what_would_be_right(text: str, told: str) -> None:
    assert told in mistake(text)
