"""The detector of URLs: hosts that are allowed and denied, and hosts that are hidden."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.guardrails.detectors.urls import PLUGIN, UrlsOptions, host_form

DENY = PLUGIN.build(UrlsOptions(deny=("evil.example", "*.bad.com", "bücher.de", "1.2.3.4")))
ALLOW = PLUGIN.build(UrlsOptions(allow=("good.com", "*.good.com", "10.0.0.1")))


def found(text: str, detector=DENY) -> list[tuple[str, str]]:
    return [(each.label, text[each.start : each.end]) for each in detector.find(text, "user")]


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example",
        "HTTPS://EVIL.EXAMPLE/x?y=1",
        "https://evil.example.:443/x",
        "//evil.example/x",
        "http:\\\\evil.example\\x",
        "https://user:pw@evil.example/",
        "https://good.com@evil.example/",
        "https://evil%2eexample/",
        "https://evil。example/",
        "https://ｅvil.example/",
        "https://ev\u200bil.example/",
        "https%3A%2F%2Fevil.example%2Fx",
        "https:\\/\\/evil.example\\/x",
        "https://a.bad.com/",
        "ftp://b.a.bad.com",
        "www.bad.com",
        "a.bad.com",
        "https://bücher.de/",
        "https://BÜCHER.de/",
        "https://xn--bcher-kva.de/",
        "http://1.2.3.4/",
        "http://16909060/",
        "http://0x01020304/",
        "http://0x1.0x2.0x3.0x4/",
        "http://01.02.03.04/",
        "http://1.2.772/",
        "http://[::ffff:1.2.3.4]/",
        "http://[::ffff:102:304]:80/",
    ],
)
def test_a_denied_host_is_found_however_it_is_written(url: str) -> None:
    assert [("denied_host", url)] == found(f"See {url} for it.")
    assert [("denied_host", url)] == found(f"[a]({url})")


@pytest.mark.parametrize(
    "text",
    [
        "https://bad.com/",
        "https://notevil.example/",
        "https://evil.example.org/",
        "https://xbad.com/",
        "http://1.2.3.5/",
        "evil example",
        "// evil.example is a comment",
        "https://localhost/",
        "https://${HOST}.evil.example/",
        "https://good.com/#evil.example",
    ],
)
def test_another_host_is_not_found(text: str) -> None:
    assert [] == found(text)


def test_a_url_within_another_one_is_found() -> None:
    text = "https://good.com/?next=https://evil.example/x"

    assert [("denied_host", "https://evil.example/x")] == found(text)


def test_a_url_in_base64_is_found() -> None:
    encoded = base64.b64encode(b"go to https://evil.example/x now").decode()

    assert ["denied_host"] == [label for label, _ in found(encoded)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://good.com/x", []),
        ("https://a.b.good.com:8443/x", []),
        ("http://10.0.0.1/", []),
        ("http://0x0a000001/", ["hidden_host"]),
        ("https://other.org/x", ["not_allowed_host"]),
        ("https://good.com.other.org/", ["not_allowed_host"]),
        ("https://gооd.com/", ["hidden_host"]),
        ("https://good.com:pw@other.org/", ["hidden_host"]),
        ("https://пример.рф/", ["not_allowed_host"]),
        ("a sentence. With dots.and.words", []),
    ],
)
def test_only_allowed_hosts_are_not_found(text: str, expected: list[str]) -> None:
    assert expected == [label for label, _ in found(text, ALLOW)]


def test_addresses_are_found_if_the_configuration_says_so() -> None:
    detector = PLUGIN.build(UrlsOptions(addresses=True))

    assert [("ip_host", "http://9.8.7.6/x")] == found("http://9.8.7.6/x or https://good.com", detector)
    assert [("ip_host", "http://[2001:db8::1]/")] == found("http://[2001:db8::1]/", detector)


def test_tricks_are_not_found_if_the_configuration_says_so() -> None:
    assert [] == found("https://a.com@b.com/", PLUGIN.build(UrlsOptions(tricks=False, deny=("x.com",))))


def test_options_that_find_nothing_or_are_no_hosts_are_refused() -> None:
    with pytest.raises(ValueError, match="would find nothing"):
        UrlsOptions(tricks=False)
    for each in ("https://x.com", "x.com/y", "*.", "a b", "*"):
        with pytest.raises(ValueError, match="not the name of a host"):
            UrlsOptions(deny=(each,))


def test_hosts_have_one_form() -> None:
    assert "xn--bcher-kva.de" == host_form("BÜCHER.de.")
    assert "1.2.3.4" == host_form("0x1.2.772") == host_form("[::ffff:1.2.3.4]")
    assert "2001:db8::1" == host_form("[2001:DB8:0::1]")


PARTS = [
    "https://",
    "//",
    "www.",
    "evil.example",
    "@",
    "[",
    "]",
    ":",
    ".",
    "%2e",
    "é",
    "1.2.3.4",
    " ",
    "/",
    "\\",
    "xn--",
]


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.one_of(st.text(st.characters(), max_size=6), st.sampled_from(PARTS)), max_size=20).map("".join))
def test_findings_are_in_order_and_within_any_text(text: str) -> None:
    for detector in (DENY, ALLOW):
        end = 0
        for each in detector.find(text, "user"):
            assert end <= each.start < each.end <= len(text)
            assert each.end - each.start <= detector.longest
            end = each.end
