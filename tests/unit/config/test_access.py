"""What config says of roles and policies, and what comes of it."""

from __future__ import annotations

import pytest
from config_kit import ENVIRON, mistake, read

from edge_extproc.auth.identity import IdentitySources
from edge_extproc.auth.merge import merge_policies

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
    principal = (
        IdentitySources(config, print).authenticator().authenticate([("authorization", f"Bearer {ENVIRON['KEY']}")])
    )
    access = merge_policies(config)
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
    assert merge_policies(read("")) is None
    assert merge_policies(read("roles: {open: {}}")) is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROLES.replace("[analyst]", "[analyst, nobody]"), "there is no role 'nobody'; have analyst, open"),
        (ROLES.replace("[images]", "[magic]"), "this is not one of tools, images"),
        (ROLES.replace("[chat]", "[dance]"), "there is no such operation; have chat"),
        (ROLES.replace("[viewer]", "[root]"), "this is not one of viewer, tenant_admin, admin"),
    ],
)
def test_a_mistake_says_what_would_be_right(text: str, told: str) -> None:
    assert told in mistake(text)


TOKENS = """
auth:
  pepper: pepper-pepper-pepper
  jwt: [{issuer: "https://i/", jwks_url: "https://i/keys", audiences: [edge], tenant: acme}]
  certificates: [{tenant: acme, uri: "spiffe://*"}]
  trust_forwarded_certificates: true
callers: [{tenant: acme, keys: []}]
"""


def test_tokens_and_certificates_need_no_key() -> None:
    identity = IdentitySources(read(TOKENS), print)

    assert type(identity.authenticator()).__name__ == "CompositeAuthenticator"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOKENS.replace("https://i/keys", "http://i/keys"), "keys that are fetched unencrypted from another machine"),
        (TOKENS.replace("[edge]", "[]"), "this list is empty"),
        (TOKENS.replace("[edge]", "[edge], algorithms: [HS256]"), "this is not one of RS256"),
        (TOKENS.replace("[edge]", "[edge], algorithms: [none]"), "this is not one of RS256"),
        (TOKENS.replace("tenant: acme}]\n  cert", "tenant: x}]\n  cert"), "there is no tenant 'x' among callers; have"),
        (TOKENS.replace('uri: "spiffe://*"', "team: x"), "exactly one of uri and subject is needed"),
        (TOKENS.replace('"spiffe://*"', '"spiffe://*", roles: [r]'), "there is no role 'r'; have none"),
        (
            TOKENS.replace("trust_forwarded_certificates: true", "api_keys: true"),
            "client certificates are not verified",
        ),
        ("listen: {tls: {generate: true, client_certificate: required}}", "cannot be verified; give client_ca"),
    ],
)
def test_a_mistake_of_identity_says_what_would_be_right(text: str, told: str) -> None:
    assert told in mistake(text)


def test_a_bound_of_each_address_has_room_for_a_burst() -> None:
    found = read("envoy: {source_limit: {requests_per_second: 50}}").envoy.source_limit

    assert found is not None
    assert (100, 10_000) == (found.bucket, found.addresses)
    assert "write 50 or more" in mistake("envoy: {source_limit: {requests_per_second: 50, burst: 10}}")
