"""What may not be written down: found wherever it stands, and nothing else taken for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest
from cells import each_cell
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.config.secrets import generate_key
from edge_extproc.telemetry.redaction import MASK, is_clean, is_random_id, redact

# Made up, each in the shape of its kind.
KEYS = {
    "openai": "sk-proj-AbCdEf0123456789AbCdEf",
    "openai service account": "sk-svcacct-AbCdEf0123456789AbCdEf",
    "anthropic": "sk-ant-api03-AbCdEf_0123-456789",
    "openrouter": "sk-or-v1-0123456789abcdef0123456789abcdef",
    "deepseek": "sk-0123456789abcdef0123456789abcdef",
    "ours": generate_key(),
    "groq": "gsk_AbCdEf0123456789AbCd",
    "xai": "xai-AbCdEf0123456789AbCd",
    "perplexity": "pplx-AbCdEf0123456789AbCd",
    "nvidia": "nvapi-AbCdEf0123456789AbCd",
    "hugging face": "hf_AbCdEf0123456789AbCd",
    "replicate": "r8_AbCdEf0123456789AbCd",
    "cerebras": "csk-AbCdEf0123456789AbCd",
    "together": "tgp_v1_AbCdEf0123456789AbCd",
    "fireworks": "fw_AbCdEf0123456789AbCd",
    "langfuse": "pk-lf-01234567-89ab-cdef",
    "google": "AIza" + "Sy0123456789abcdefghijABCDEFGHIJ_-x",
    "google oauth": "ya29.a0AfB_byC0123456789abcdef",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "bedrock": "ABSK" + "QmVkcm9ja0FQSUtleS0wMTIzNDU2Nzg5MDEyMzQ1Njc4OQ==",
    "github": "ghp_AbCdEf0123456789AbCdEf0123456789",
    "zhipu": "0123456789abcdef0123456789abcdef.AbCdEf0123456789",
    "slack": "xoxb-123456789012-AbCdEf0123456789",
}
TOKENS = {
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "bearer": "Bearer c2VjcmV0LXRva2Vu",
    "bearer of one case": "bearer abcdefghijkl",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "encoded": "Bearer%20c2VjcmV0",
    "tab": "Bearer\tc2VjcmV0LXRva2Vu",
}
# A name tells of the value behind it.
NAMED = {
    "json": ('{"api_key": "abcdefgh"}', "abcdefgh"),
    "json in json": (json.dumps({"text": '{"x-api-key":"abcdefgh"}'}), "abcdefgh"),
    "query": ("/v1/models?api-key=abcdefgh&x=1", "abcdefgh"),
    "environment": ("AZURE_OPENAI_API_KEY=0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
    "header": ("x-api-key: 0123456789abcdef", "0123456789abcdef"),
    "password": ("password = correcthorse", "correcthorse"),
    "aws": (
        "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    "long name": ("x-amz-security-token: FwoGZXIvYXdzEBYaDOEXAMPLE", "FwoGZXIvYXdzEBYaDOEXAMPLE"),
    "signature": ("?X-Amz-Signature=0123456789abcdef0123", "0123456789abcdef0123"),
    "short name in a query": ("/v1/models?alt=sse&key=abcdefgh", "abcdefgh"),
    "pem": ("-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIB\nADANBg\n-----END RSA PRIVATE KEY-----", "ADANBg"),
    "pem in json": (
        json.dumps({"private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIB\nADANBg\n-----END PRIVATE KEY-----\n"}),
        "ADANBg",
    ),
    "pem that is cut off": ('"key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg', "ADANBg"),
    "address": ("redis://user:hunter2@cache:6379/0", "hunter2"),
}
PEOPLE = {
    "[email]": ["ann.lee+work@mail.example.co.uk", "a@b.io", "j\u00fcrgen@ex\u00e4mple.org"],
    "[phone]": [
        "+1 415 555 2671",
        "+14155552671",
        "+44 20 7946 0958",
        "+49 (30) 901820",
        "+49 (0)30/1234567",
        "0049 30 12345678",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-800-555-0199".replace("555", "655"),
    ],
    "[ssn]": ["123-45-6789", "899-99-9999"],
    "[card]": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "2223003122003222",
    ],
    "[ip]": [
        "203.0.113.7",
        "10.1.2.3",
        "2001:db8::ff00:42:8329",
        "fe80::1",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "::ffff:203.0.113.9",
    ],
}
AROUND = ["{}", "key={}", "'{}'", 'said "{}", then', "a/{}/b", "({})", "\u2028{}\n", '{{"x":"{}"}}', "[{}]", "a: {}; b"]


@each_cell("secret", [*KEYS.values(), *TOKENS.values()], ids=[*KEYS, *TOKENS])
@each_cell("around", AROUND)
def test_a_secret_is_taken_out_wherever_it_stands(secret: str, around: str) -> None:
    clean = redact(around.format(secret))

    assert secret.replace("%20", " ").split(" ")[-1] not in clean
    assert MASK in clean


@pytest.mark.parametrize(("text", "secret"), NAMED.values(), ids=NAMED)
def test_what_a_name_calls_a_secret_is_one(text: str, secret: str) -> None:
    clean = redact(text)

    assert secret not in clean
    assert MASK in clean


@each_cell(("shown", "found"), [(shown, one) for shown, many in PEOPLE.items() for one in many])
@each_cell("around", [each for each in AROUND if each != "a/{}/b"])
def test_what_names_a_person_is_taken_out(shown: str, found: str, around: str) -> None:
    assert redact(around.format(found)) == around.format(shown)


@pytest.mark.parametrize(
    "text",
    [
        "edge-extproc-worker-processes started",
        "sk-learn",
        "task-force-of-2024-and-later",
        "http://127.0.0.1:10000/v1 and [::1]:80",
        "gpt-4o-mini-2024-07-18, claude-sonnet-4-5-20250929, gemini-2.5-pro-preview-05-06",
        "3f0c9ad6-1f0e-4c3b-9a57-0a6f3a4ef001",
        "12345678-1234-1234-1234-123456789012",
        "AKIATOOSHORT",
        "version 1.2.3, v2.10.0.1.2, 1.40.0",
        "2026-11-24T19:40:04.123456+01:00 10:20:30",
        "1721298600000 1721298600000000000",
        "d41d8cd98f00b204e9800998ecf8427e 0123456789012345678901234567890123456789",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "chatcmpl-9xQZ1f2K3L4m5N6o7P8q, msg_01XFDUDYJgAACzvnptvVoYEL, req_011CSHoEeqs5C35K2UUqR7Fy",
        "4111111111111112 1234567890123456 9999999999999995",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "tokens 1024 2048 4096 8192 16384",
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000",
        "Basic authentication, token expired, the bearer of it, no api_key: expected one",
        "std::string, Foo::Bar, a::b, De::ad",
        "100%25 of %2Fv1%2Fmodels, 20% off, \\u0041 \\/",
        "aa:bb:cc:dd:ee:ff",
        "999.1.2.3 256.256.256.256",
        "+100 tokens, 1e+10, +12345",
        "cost 0.000125 of 1234567.89, 3.14159265358979",
        "user@host says hi",
        "for n in range(10): print(n)",
        "",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text) == text


ESCAPED = {
    "url": lambda text: quote(text, safe=""),
    "url twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": lambda text: "".join(f"\\u{ord(c):04x}" if not c.isalnum() else c for c in text),
    "json in json": lambda text: "".join(f"\\\\u{ord(c):04X}" if not c.isalnum() else c for c in text),
    "whole": lambda text: "".join(f"%{ord(c):02x}" for c in text),
}


@pytest.mark.parametrize("escaped", ESCAPED.values(), ids=ESCAPED)
@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("[email]", "ann.lee@mail.example.org"),
        ("[phone]", "+14155552671"),
        ("[card]", "4111 1111 1111 1111"),
        ("[ip]", "2001:db8::1"),
        (MASK, KEYS["openai"]),
        (MASK, TOKENS["jwt"]),
    ],
)
def test_what_is_escaped_is_found(shown: str, found: str, escaped: Callable[[str], str]) -> None:
    text = f"/v1/x/{escaped(found)}/y?a=%20"

    assert redact(text) == f"/v1/x/{shown}/y?a=%20"
    assert not is_clean(text)


def test_a_card_among_other_numbers_is_found() -> None:
    assert redact("1 4111 1111 1111 1111 123, 42") == "1 [card] 123, 42"


def test_bytes_that_are_not_utf8_become_escapes() -> None:
    assert redact("caf\udce9 é") == "caf\\udce9 é"
    assert not is_clean("caf\udce9")


SECRETS = sorted([*KEYS.values(), TOKENS["jwt"]])


@given(st.text(max_size=50), st.sampled_from(SECRETS), st.text(max_size=50))
def test_no_neighbours_save_a_secret(before: str, secret: str, after: str) -> None:
    assert secret not in redact(f"{before} {secret} {after}")


@given(st.lists(st.sampled_from([each for many in PEOPLE.values() for each in many]), max_size=8))
def test_each_of_several_is_found(found: list[str]) -> None:
    clean = redact("; ".join(found))

    assert [kind in PEOPLE for kind in clean.split("; ")] == [True] * len(found) or found == []


@given(st.text(max_size=300))
def test_what_was_redacted_stays_as_it_is(text: str) -> None:
    once = redact(text)

    assert redact(once) == once


@given(st.text(max_size=300))
def test_a_clean_text_is_not_touched(text: str) -> None:
    if is_clean(text):
        assert redact(text) == text


@given(st.uuids())
def test_an_id_is_no_number_of_anybodys(found: uuid.UUID) -> None:
    assert redact(f"id {found}") == f"id {found}"


@given(st.binary(min_size=16, max_size=16))
def test_a_trace_id_is_no_number_of_anybodys(found: bytes) -> None:
    assert redact(found.hex()) == found.hex()


UUID_FORM = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


@given(st.from_regex(rf"{UUID_FORM}|[0-9a-f]{{32}}|[0-9]{{32}}", fullmatch=True))
def test_an_id_that_is_not_searched_holds_nothing_to_redact(found: str) -> None:
    assert is_random_id(found)
    assert redact(found) == found


@pytest.mark.parametrize("more", [" ann.lee@mail.example.org", "\n", "." + "a" * 16, "-1"])
def test_more_than_an_id_is_searched(more: str) -> None:
    assert not is_random_id(f"6cb5f1c4-8f14-4d35-9f0e-1f6c2f5a7c11{more}")
    assert not is_random_id("0af7651916cd43dd8448eb211c80319c" + more)
