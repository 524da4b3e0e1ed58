"""What passes to a provider and back."""

import pytest
from every_dialect import EVERY_NAME
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.exchange.headers import first, is_request_id, one_line, outgoing, status_of, unwanted

CALLER = (
    (":method", "POST"),
    (":path", "/v1/chat/completions"),
    (":authority", "gateway"),
    ("authorization", "Bearer caller"),
    ("x-api-key", "caller"),
    ("cookie", "session=1"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-edge-role", "admin"),
    ("openai-organization", "org-caller"),
    ("accept-encoding", "gzip"),
    ("user-agent", "openai-python"),
    ("anthropic-beta", "x"),
    ("x-stainless-lang", "python"),
    ("x-request-id", "1"),
    ("content-length", "3"),
)


def seen(own, *, credentials=(("authorization", "Bearer provider"),), defaults=()):
    to_set, removed = outgoing(CALLER, credentials, defaults, "/v1/x", 7, own=own)
    return {**{n: v for n, v in CALLER if n not in removed}, **dict(to_set)}


def test_nothing_of_the_callers_identity_reaches_a_provider():
    assert {
        ":method": "POST",
        ":path": "/v1/x",
        ":authority": "gateway",
        "authorization": "Bearer provider",
        "user-agent": "openai-python",
        "x-forwarded-for": "10.0.0.1",
        "x-request-id": "1",
        "content-length": "7",
        "content-type": "application/json",
    } == seen(None)


def test_headers_of_a_dialect_stay_within_it():
    assert {"anthropic-beta": "x", "x-stainless-lang": "python"}.items() <= seen(EVERY_NAME.headers).items()


def test_the_callers_key_is_removed_where_the_provider_needs_another_header():
    result = seen(EVERY_NAME.headers, credentials=(("x-api-key", "provider"),))

    assert "provider" == result["x-api-key"]
    assert "authorization" not in result


def test_a_default_yields_to_what_the_caller_said():
    defaults = (("anthropic-beta", "default"), ("anthropic-version", "2023-06-01"))
    result = seen(EVERY_NAME.headers, defaults=defaults)

    assert ("x", "2023-06-01") == (result["anthropic-beta"], result["anthropic-version"])


@given(st.lists(st.tuples(st.text("abcxyz-:", min_size=1), st.text()), max_size=20))
def test_a_header_either_passes_by_name_or_is_removed(headers):
    to_set, removed = outgoing(tuple(headers), (), (), "/", 0, own=None)
    known = {name for name, _ in to_set}

    for name, _ in headers:
        passes = name.startswith((":", "x-envoy-", "x-forwarded-")) or name in known
        assert passes != (name in removed)


ANSWERED = (
    (":status", "200"),
    ("content-type", "application/json"),
    ("transfer-encoding", "chunked"),
    ("retry-after", "1"),
    ("request-id", "r"),
    ("x-request-id", "r"),
    ("x-amzn-errortype", "ThrottlingException"),
    ("x-amzn-bedrock-input-token-count", "1"),
    ("anthropic-ratelimit-requests-remaining", "5"),
    ("openai-organization", "o"),
    ("set-cookie", "c"),
    ("x-edge-exchange", "1"),
    ("x-ratelimit-remaining-tokens", "5"),
    ("access-control-allow-origin", "*"),
    ("x-not-known", "1"),
)


def test_a_caller_gets_what_describes_the_reply_and_no_more():
    """A provider's limits are the operator's. Under the names of this gateway's own, they would be read as its own."""
    assert (
        "access-control-allow-origin",
        "anthropic-ratelimit-requests-remaining",
        "openai-organization",
        "set-cookie",
        "x-edge-exchange",
        "x-not-known",
        "x-ratelimit-remaining-tokens",
    ) == unwanted(ANSWERED)


def test_the_configuration_adds_headers_but_never_the_gateways_own():
    assert (
        "access-control-allow-origin",
        "openai-organization",
        "set-cookie",
        "x-edge-exchange",
        "x-ratelimit-remaining-tokens",
    ) == unwanted(ANSWERED, ("anthropic-ratelimit-*", "x-not-known"))
    assert ("access-control-allow-origin", "set-cookie", "x-edge-exchange", "x-ratelimit-remaining-tokens") == unwanted(
        ANSWERED, ("*",)
    )


@pytest.mark.parametrize(
    ("value", "status"), [(None, 0), ("100", 100), ("599", 599), ("1", 502), ("99", 502), ("600", 502), ("999", 502)]
)
def test_a_status_outside_of_http_is_a_bad_gateway(value, status):
    assert status == status_of(value)


def test_the_first_of_several_values_is_found():
    assert "a" == first((("x", "a"), ("x", "b")), "x")
    assert None is first((), "x")


@pytest.mark.parametrize("id", ["a", "0af7651916cd43dd8448eb211c80319c", "job:7/3+4=x~y_z.-", "x" * 128])
def test_a_caller_may_name_its_request(id):
    assert is_request_id(id)


@pytest.mark.parametrize(
    "id",
    ["", "x" * 129, "-a", "two words", "a,b", "a\n", "é", "<b>", "sk-proj-abcdefghijklmnopqrstuvwx123456", "10.1.2.3"],
)
def test_what_is_no_request_id_or_may_not_stand_in_a_log(id):
    assert not is_request_id(id)


def test_a_long_list_of_dropped_fields_joins_those_of_all_items():
    few = ("input[0].id", "input[1].id", "store", "tools[12]")
    many = tuple(f"input[{i}].{name}" for i in range(300) for name in ("id", "status"))

    assert "input[0].id, input[1].id, store, tools[12]" == one_line(few)
    assert "input[*].id, input[*].status, store, tools[*]" == one_line((*many, "store", "tools[12]"))
