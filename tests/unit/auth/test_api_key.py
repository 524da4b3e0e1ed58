"""API keys: only the exact key opens, whatever else stands in the headers."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc import registry
from edge_extproc.auth import api_key
from edge_extproc.auth.api_key import CREDENTIAL_HEADERS, REASONS, ApiKeys, KeyRecord, digest
from edge_extproc.auth.base import AuthSettings, KeySettings
from edge_extproc.errors import ConfigError, Unauthenticated
from edge_extproc.model.principal import Principal

PEPPER = b"a pepper of thirty-two bytes ..."
KEY = "edge-3f9Jx_Zq.81~"
ANN = Principal("acme", "ann", ("gpt-*",))
NOW = 1_000_000.0


def keys(*, expires_at: float | None = None, disabled: bool = False) -> ApiKeys:
    record = KeyRecord(digest(PEPPER, KEY), "ann", ANN, expires_at, disabled)
    return ApiKeys([record], PEPPER, lambda: NOW)


def refusal(*headers: tuple[str, str], by: ApiKeys | None = None) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        (by or keys()).authenticate(headers)
    return caught.value


def spelled(name: str, key: str) -> tuple[str, str]:
    scheme = CREDENTIAL_HEADERS[name]
    return name, f"{scheme} {key}" if scheme else key


@pytest.mark.parametrize("name", CREDENTIAL_HEADERS)
def test_each_spelling_opens(name: str) -> None:
    headers = [(":path", "/v1/chat/completions"), spelled(name, KEY), ("user-agent", "x")]

    assert keys().authenticate(headers) == ANN


@pytest.mark.parametrize("value", [f"bearer {KEY}", f"BEARER {KEY}", f"Bearer    {KEY}"])
def test_the_scheme_is_read_as_the_standard_says(value: str) -> None:
    assert keys().authenticate([("authorization", value)]) == ANN


def test_the_same_key_in_every_header_is_one_key() -> None:
    assert keys().authenticate([spelled(name, KEY) for name in CREDENTIAL_HEADERS]) == ANN


def test_no_credential_is_answered_with_the_ways_to_send_one() -> None:
    error = refusal((":method", "POST"), ("cookie", f"key={KEY}"))

    assert error.fault().status == 401
    assert error.fault().kind == "authentication"
    assert error.code == "missing_api_key"
    assert all(name in error.message for name in CREDENTIAL_HEADERS)


@pytest.mark.parametrize("other", ["edge-unknown", KEY + "x", KEY[:-1], KEY.upper()])
def test_a_key_that_is_not_exactly_the_key_is_unknown(other: str) -> None:
    error = refusal(("x-api-key", other))

    assert error.code == "invalid_api_key"
    assert "send a key of this gateway" in error.message


@pytest.mark.parametrize("second", [KEY, "edge-other"])
def test_a_header_sent_twice_is_refused_even_if_both_agree(second: str) -> None:
    error = refusal(("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {second}"))

    assert error.code == "duplicate_api_key"


def test_two_headers_with_different_keys_are_refused_in_either_order() -> None:
    pair = [("x-api-key", "edge-other"), ("authorization", f"Bearer {KEY}")]

    assert refusal(*pair).code == "conflicting_api_keys"
    assert refusal(*reversed(pair)).code == "conflicting_api_keys"


@pytest.mark.parametrize("name", CREDENTIAL_HEADERS)
@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param(f"{KEY[:4]} {KEY[4:]}", id="space inside"),
        pytest.param(f"{KEY}\t", id="tab"),
        pytest.param(f"{KEY}\n", id="line end"),
        pytest.param(f"{KEY}\x00", id="zero byte"),
        pytest.param(f"{KEY}\x7f", id="delete"),
        pytest.param(f"{KEY}é", id="latin letter"),
        pytest.param(f"{KEY}\udce9", id="byte that is not UTF-8"),
        pytest.param(f"{KEY}, {KEY}", id="joined by a proxy"),
        pytest.param("k" * 513, id="overlong"),
    ],
)
def test_what_cannot_be_a_key_is_refused_before_it_is_looked_up(name: str, key: str) -> None:
    error = refusal(spelled(name, key))

    assert error.code == "malformed_api_key"
    assert name in error.message


@pytest.mark.parametrize(
    "value", ["", KEY, f"Basic {KEY}", "Bearer", f"Bearer\t{KEY}", f"Bearer{KEY}", f" Bearer {KEY}"]
)
def test_authorization_without_the_bearer_scheme_is_refused(value: str) -> None:
    assert refusal(("authorization", value)).code == "malformed_api_key"


def test_an_empty_header_is_not_overlooked_beside_a_good_one() -> None:
    assert refusal(("x-api-key", ""), ("authorization", f"Bearer {KEY}")).code == "malformed_api_key"


def test_the_longest_key_is_let_in() -> None:
    long = "k" * 512
    opened = ApiKeys([KeyRecord(digest(PEPPER, long), "long", ANN)], PEPPER)

    assert opened.authenticate([("x-api-key", long)]) == ANN


def test_a_disabled_key_says_so_to_its_holder_alone() -> None:
    shut = keys(disabled=True)

    assert refusal(("x-api-key", KEY), by=shut).code == "disabled_api_key"
    assert refusal(("x-api-key", KEY + "x"), by=shut).code == "invalid_api_key"


def test_a_key_is_good_until_the_second_it_expires() -> None:
    assert keys(expires_at=NOW + 1).authenticate([("x-api-key", KEY)]) == ANN
    assert refusal(("x-api-key", KEY), by=keys(expires_at=NOW)).code == "expired_api_key"


def test_the_stored_form_is_hmac_sha256() -> None:
    assert digest(PEPPER, KEY) == hmac.new(PEPPER, KEY.encode(), hashlib.sha256).hexdigest()


def test_a_table_of_keys_without_any_opens_to_nobody() -> None:
    assert refusal(("x-api-key", KEY), by=ApiKeys([], PEPPER)).code == "invalid_api_key"


# --- built from what config says


def test_config_gives_a_key_or_its_digest() -> None:
    settings = AuthSettings(
        (
            KeySettings("ann", "acme", secret=lambda: KEY, models=("gpt-*",)),
            KeySettings("bob", "acme", digest=digest(PEPPER, "edge-bob"), expires_at=NOW, disabled=True),
        ),
        PEPPER,
    )
    built = registry.load("auth", "api_key").build(settings, lambda: NOW)

    assert built.authenticate([("x-api-key", KEY)]) == ANN
    assert refusal(("x-api-key", "edge-bob"), by=built).code == "disabled_api_key"


@pytest.mark.parametrize(
    "key",
    [
        KeySettings("ann", "acme"),
        KeySettings("ann", "acme", secret=lambda: KEY, digest=digest(PEPPER, KEY)),
        KeySettings("ann", "acme", secret=lambda: ""),
        KeySettings("ann", "acme", secret=lambda: KEY + " "),
        KeySettings("ann", "acme", secret=lambda: KEY * 99),
        KeySettings("ann", "acme", digest="ABC"),
    ],
)
def test_a_key_that_could_never_open_stops_the_start_and_is_named_by_its_id(key: KeySettings) -> None:
    with pytest.raises(ConfigError, match="'ann'") as caught:
        api_key.PLUGIN.build(AuthSettings((key,), PEPPER))

    assert KEY not in str(caught.value)


def test_one_key_under_two_ids_stops_the_start() -> None:
    twins = tuple(KeySettings(name, name, secret=lambda: KEY) for name in ("ann", "bob"))

    with pytest.raises(ConfigError, match="'ann' and 'bob'"):
        api_key.PLUGIN.build(AuthSettings(twins, PEPPER))


def test_a_short_pepper_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="3 bytes"):
        ApiKeys([], b"abc")


def test_neither_pepper_nor_digest_shows_in_a_repr() -> None:
    record = KeyRecord(digest(PEPPER, KEY), "ann", ANN)

    assert digest(PEPPER, KEY) not in repr(record)
    assert "pepper" not in repr(AuthSettings((), PEPPER))


# --- whatever is sent

_WORDS = st.sampled_from([KEY, f"Bearer {KEY}", f"Basic {KEY}", KEY + "x", KEY[1:], "", " ", "Bearer ", f"{KEY},{KEY}"])
_VALUES = _WORDS | st.text(max_size=40) | st.text(st.characters(codec="utf-8", max_codepoint=0xFF), max_size=600)
_RAW = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_NAMES = st.sampled_from([*CREDENTIAL_HEADERS, "cookie", "proxy-authorization", "X-Api-Key"])


def opened_or_refused(headers: list[tuple[str, str]]) -> Principal | Unauthenticated:
    try:
        return keys().authenticate(headers)
    except Unauthenticated as error:
        return error


@given(st.lists(st.tuples(_NAMES, _VALUES | _RAW), max_size=6))
def test_no_headers_crash_or_open_without_the_exact_key(headers: list[tuple[str, str]]) -> None:
    credentials = [(name, value) for name, value in headers if name in CREDENTIAL_HEADERS]
    each_is_the_key = all(pair in {spelled(name, KEY) for name in CREDENTIAL_HEADERS} for pair in credentials)
    each_is_alone = len({name for name, _ in credentials}) == len(credentials)

    outcome = opened_or_refused(headers)

    if credentials and each_is_the_key and each_is_alone:
        assert outcome == ANN
    else:
        assert isinstance(outcome, Unauthenticated)
        assert outcome.code in REASONS
        assert KEY not in outcome.message
        assert not any(len(value) > 12 and value in outcome.message for _, value in credentials)


def test_a_pepper_of_any_length_opens_what_it_has_digested() -> None:
    for length in (16, 63, 64, 65, 200):
        pepper = bytes(range(length))
        keys = ApiKeys([KeyRecord(digest(pepper, KEY), "ann", ANN)], pepper)

        assert keys.authenticate((("x-api-key", KEY),)) == ANN
