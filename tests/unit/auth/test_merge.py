"""How keys of the admin API combine with the configuration."""

from __future__ import annotations

import pytest
from config_kit import read

from edge_extproc.auth.merge import merge_keys, merge_policies
from edge_extproc.model.globs import allows, intersection
from edge_extproc.model.managed import ManagedKey, ManagedState
from edge_extproc.model.principal import Principal

CALLERS = """
callers:
  - tenant: acme
    keys: [{id: a, key: {env: KEY}}, {id: "*", key: {env: KEY}, policy: {models: ["gpt-*"]}}]
"""


def managed_key(id: str, tenant: str = "acme", models: tuple[str, ...] = ("*",)) -> ManagedKey:
    return ManagedKey(id, "digest", tenant, None, None, models, (), 5_000)


@pytest.mark.parametrize(
    ("some", "others", "both"),
    [
        (None, ("gpt-*",), {"gpt-*"}),
        (("*",), ("gpt-*",), {"gpt-*"}),
        (("gpt-*",), ("gpt-4o", "claude-3"), {"gpt-4o"}),
        (("gpt-4o", "o3"), ("gpt-*", "o3"), {"gpt-4o", "o3"}),
        (("gpt-4*",), ("gpt-*o",), set()),
        (("gpt-*",), ("gpt-*", "o3"), {"gpt-*"}),
    ],
)
def test_an_intersection_allows_nothing_that_one_side_forbids(
    some: tuple[str, ...] | None, others: tuple[str, ...], both: set[str]
) -> None:
    found = intersection(some, others)
    names = ("gpt-4o", "gpt-4", "o3", "claude-3")

    assert both == set(found)
    assert all(allows(some or ("*",), name) and allows(others, name) for name in names if allows(found, name))


def test_a_configured_key_counts_before_a_managed_one_and_an_unknown_tenant_has_none() -> None:
    config = read("callers: [{tenant: acme, keys: [{id: a, key: {env: KEY}}]}]")
    managed = ManagedState(1, (managed_key("a"), managed_key("b"), managed_key("c", tenant="gone")), ("a",))
    a, b = merge_keys(config, managed)

    assert ("a", True, None) == (a.id, a.disabled, a.digest)
    assert ("b", False, "digest", 5.0) == (b.id, b.disabled, b.digest, b.expires_at)


def test_a_managed_key_narrows_the_tenants_policy_for_keys() -> None:
    config = read("roles: {open: {}}")
    managed = ManagedState(1, (managed_key("b", models=("gpt-4o",)),))
    policies = merge_policies(config, managed)
    assert policies is not None
    rights = policies.of(Principal("acme", "b"))
    assert rights is not None

    assert (True, False) == (rights.may_list("gpt-4o"), rights.may_list("o3"))
