"""Who may use what of MCP servers."""

from __future__ import annotations

import pytest

from edge_extproc.auth.mcp_access import McpAccess, McpGrants, McpKind
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy, PolicyRights
from edge_extproc.errors import Forbidden
from edge_extproc.model.principal import Principal

ALL = McpAccess(("*",), ("*",), ("*",))


@pytest.mark.parametrize(
    ("server", "kind", "name", "expected"),
    [
        ("files", "tools", "read_file", True),
        ("files", "tools", "write_file", False),
        ("files", "tools", "Read_file", False),
        ("files", "tools", "read_file\n", True),
        ("files", "prompts", "read_file", False),
        ("files", "resources", "file:///public/a/b", True),
        ("files", "resources", "file:///private", False),
        ("web-one", "tools", "search", True),
        ("web-one", "tools", "both", True),
        ("other", "tools", "read_file", False),
    ],
)
def test_nothing_is_allowed_that_is_not_named(server: str, kind: McpKind, name: str, expected: bool) -> None:
    grants = McpGrants(
        {
            "files": McpAccess(("read_*",), (), ("file:///public/*",)),
            "web-*": McpAccess(("search",)),
            "web-one": McpAccess(("both",)),
        }
    )

    assert expected is grants.allows(server, kind, name)
    assert (server != "other") is grants.reaches(server)
    assert expected is grants.allows(server, kind, name)


def test_no_entries_allow_nothing() -> None:
    assert not McpGrants({}).reaches("files")
    assert not McpGrants({"files": McpAccess()}).allows("files", "tools", "")
    assert McpGrants({"files": McpAccess()}).reaches("files")


def rights(roles: tuple[str, ...] | None = None, **policies: AccessPolicy) -> PolicyRights:
    levels = [("acme", "key", "k", policies.pop("key"))] if "key" in policies else []
    found = AccessPolicies(levels, policies, {}).of(Principal("acme", "k", roles=roles))  # type: ignore[arg-type]
    assert found is not None
    return found


READERS = AccessPolicy(mcp={"files": McpAccess(("read_*",))})
CHATS = AccessPolicy(operations=frozenset({"chat"}))
CALLS = AccessPolicy(operations=frozenset({"mcp"}), mcp={"web": ALL})


@pytest.mark.parametrize(
    ("found", "server", "tool", "expected"),
    [
        (rights(key=READERS), "files", "read_a", None),
        (rights(key=READERS), "files", "write", "'write' is not among the tools of the MCP server 'files' that key k"),
        (rights(key=READERS), "web", "read_a", "not among the tools of the MCP server 'web'"),
        (rights(key=READERS), "web", None, "key k allows nothing of the MCP server 'web'"),
        (rights(key=READERS), "files", None, None),
        (rights(key=CHATS), "files", None, "mcp is not among the operations that key k allows"),
        (rights(("chats",), chats=CHATS), "web", "a", "mcp is not among the operations that role chats"),
        (rights(("chats", "calls"), chats=CHATS, calls=CALLS), "web", "a", None),
        (rights(("chats", "calls"), chats=CHATS, calls=CALLS), "files", "a", "role calls allows"),
        (rights(("open",), open=AccessPolicy()), "files", "a", None),
        (rights((), open=AccessPolicy()), "files", "a", "this caller has no configured role"),
        # Two roles together never allow what neither allows alone.
        (
            rights(("a", "b"), a=AccessPolicy(operations=frozenset({"chat"}), mcp={"web": ALL}), b=READERS),
            "web",
            "x",
            "not among",
        ),
    ],
)
def test_policies_and_roles_narrow(found: PolicyRights, server: str, tool: str | None, expected: str | None) -> None:
    kind: McpKind | None = "tools" if tool is not None else None
    if expected is None:
        found.may_use(server, kind, tool or "")
        return
    with pytest.raises(Forbidden) as refused:
        found.may_use(server, kind, tool or "")

    assert expected in refused.value.message
