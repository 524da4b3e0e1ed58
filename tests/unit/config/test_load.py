"""One file to one snapshot; and of every mistake: where it is, what is wrong, what would be right."""

from __future__ import annotations

import copy
import json
import pickle
import re
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateway import with_prices
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticSerializationError

from edge_extproc import registry
from edge_extproc.accounting import prices
from edge_extproc.config.default_models import BuiltinProvider, LocalServer, default_providers, has_key
from edge_extproc.config.load import DEFAULT_NAME, default, default_text, load, parse, schema
from edge_extproc.config.part import ConfigSection, cores
from edge_extproc.config.schema import Config
from edge_extproc.config.secrets import MAX_SECRET_FILE, Secret
from edge_extproc.errors import ConfigError
from edge_extproc.model.plan import Candidate
from edge_extproc.model.usage import Usage

KEY = "edge-0123456789abcdef0123456789"
PEPPER = "pepper-pepper-pepper"
ENVIRON = {"KEY": KEY, "PEPPER": PEPPER, "EMPTY": "", "PORT": "1234", "SHORT": "short", "TWO_LINES": "a\nb"}

AUTH = 'auth: {pepper: "${PEPPER}"}\n'
CALLERS = "callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]\n"
PROVIDERS = "providers: {p: {kind: openai, api_key: {env: KEY}}}\n"
MODELS = "models: {m: [{provider: p}]}\n"
RIGHT = "give {env: NAME}, {file: path}, or text with ${NAME} in it"
WHOLE = AUTH + CALLERS + PROVIDERS + MODELS
SECTIONS = {"auth": AUTH, "callers": CALLERS, "providers": PROVIDERS, "models": MODELS}


def read(text: str, base: Path = Path("/nowhere")) -> Config:
    """`text`, and behind it every section that it does not have."""
    given = {line.partition(":")[0] for line in text.splitlines()}
    rest = "".join(section for name, section in SECTIONS.items() if name not in given)
    return parse(text.rstrip("\n") + "\n" + rest, "f", environ=ENVIRON, base=base)


def mistake(text: str, base: Path = Path("/nowhere")) -> str:
    with pytest.raises(ConfigError) as found:
        read(text, base)
    return found.value.message


# --- what a configuration says


def test_a_small_configuration_gets_every_default() -> None:
    config = read("")

    assert ("127.0.0.1", 10000, None) == (config.listen.address, config.listen.port, config.listen.tls)
    assert 10001 == config.admin.port
    assert min(4, max(1, cores() // 2)) == config.agent.workers == len(config.agent.worker_sockets())
    assert Path("/nowhere/.edge/run/worker-0.sock") == Path(config.agent.worker_sockets()[0])
    assert Path("/nowhere/.edge/run/envoy-admin.sock") == config.envoy_admin_socket()
    assert 32 << 20 == config.limits.request_body
    assert timedelta(seconds=600) == config.timeouts.first_byte
    assert (3, (401, 402, 403, 408, 409, 429, 529)) == (config.retries.attempts, config.retries.on_status)
    assert "1.40" == config.envoy.version
    assert ("https://api.openai.com/v1", 443, True) == (
        config.providers["p"].url,
        config.providers["p"].endpoint.port,
        config.providers["p"].endpoint.tls,
    )
    assert {"m": (Candidate("p", ""),)} == config.rows()


def test_a_file_may_give_its_version() -> None:
    assert read("version: 1\n") == read("")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "f:1:10: version: '2': this gateway knows version 1 only; upgrade the gateway, or use the older file"),
        ("0", "f:1:10: version: '0': there is no such version; write 1"),
    ],
)
def test_nothing_else_is_reported_of_a_file_in_another_version(version: str, message: str) -> None:
    assert message == mistake(f"version: {version}\na_key_of_later: 1\nlisten: {{port: none}}\n")


def test_everything_can_be_said() -> None:
    config = read(
        """
listen: {address: "::", port: "${PORT}"}
agent: {workers: 3, state_dir: st, sockets: /run/edge, shutdown_grace: 1m30s}
limits: {request_body: 64 MiB, response_body: 1.5MiB, request_headers: 8KiB, connections: "${PORT}"}
timeouts: {request: 0s, connect: 250ms}
retries: {attempts: 2, back_off: {base: 10ms, max: 20ms}, on_status: [429], budget: {percent: 20}}
envoy: {concurrency: 2, admin: {port: 9901}, log_level: debug, access_log: off, raw: {node: {id: x}}}
telemetry: {log: {format: console, level: debug}}
callers:
  - tenant: a
    models: ["gpt-*"]
    keys:
      - {id: one, hash: "hmac-sha256:%s", expires: 2027-01-31, disabled: true}
      - {id: two, key: "$${literal}-and-long"}
providers:
  p: {kind: anthropic, api_key: {env: KEY}}
  q: {kind: openai_compatible, host: groq, api_key: {env: KEY}, pool: {http2: "true"}}
  r: {kind: openai, base_url: "https://other.example:8443/api/"}
  s: {kind: openai_compatible, host: ollama}
models:
  fast: [{provider: q, model: llama}, {provider: p}]
"""
        % ("ab" * 32)
    )

    assert ("::", 1234) == (config.listen.address, config.listen.port)
    assert timedelta(seconds=90) == config.agent.shutdown_grace
    assert (64 << 20, 3 << 19, 1234) == (
        config.limits.request_body,
        config.limits.response_body,
        config.limits.connections,
    )
    assert config.envoy_admin_socket() is None
    assert {"node": {"id": "x"}} == dict(config.envoy.raw)
    one, two = config.callers[0].keys
    assert ("ab" * 32, datetime(2027, 1, 31, tzinfo=UTC), True) == (one.digest, one.expires, one.disabled)
    assert two.key is not None
    assert ("${literal}-and-long", None) == (two.key.reveal(), two.digest)
    assert "https://api.groq.com/openai/v1" == config.providers["q"].url
    assert config.providers["q"].pool.http2 is True
    assert "other.example:8443" == config.providers["r"].endpoint.authority
    assert "https://other.example:8443/api" == config.providers["r"].url
    assert "http://127.0.0.1:11434/v1" == config.providers["s"].url
    assert (Candidate("q", "llama"), Candidate("p", "")) == config.rows()["fast"]


def test_nothing_of_a_snapshot_can_be_changed() -> None:
    config = read("")

    with pytest.raises(ValueError, match="frozen"):
        config.listen.port = 1  # type: ignore[misc]  # that is the test
    with pytest.raises(TypeError):
        config.models["x"] = ()  # type: ignore[index]  # that is the test
    with pytest.raises(TypeError):
        config.providers["x"] = config.providers["p"]  # type: ignore[index]  # that is the test
    with pytest.raises(TypeError):
        config.envoy.raw["x"] = 1  # type: ignore[index]  # that is the test


def test_two_readings_of_one_file_are_equal() -> None:
    assert read("") == read("")
    assert read("") != read("listen: {port: 1}")


def test_a_fingerprint_tells_configurations_apart_and_no_secret() -> None:
    one, other = read("listen: {port: 1234}"), read("listen: {port: 1235}")

    assert read("listen: {port: 1234}").fingerprint() == one.fingerprint() != other.fingerprint()
    assert 12 == len(one.fingerprint())


def test_only_true_and_false_are_booleans_and_only_decimal_digits_numbers() -> None:
    provider = "providers: {p: {kind: openai, api_key: {env: KEY}, allow_plaintext: %s}}\n"
    config = read(provider % "true" + "models: {0x1f: [{provider: p, model: 0777}, {provider: p, model: 1:30}]}")

    assert config.providers["p"].allow_plaintext
    assert (Candidate("p", "0777"), Candidate("p", "1:30")) == config.rows()["0x1f"]
    for word in ("yes", "on", "y", "True", "1"):
        assert (
            f"f:1:69: providers.p.allow_plaintext: '{word}': this is not true or false; write true or false"
        ) == mistake(provider % word)


def test_aliases_are_followed() -> None:
    config = read("providers:\n  p: &p {kind: openai, api_key: {env: KEY}}\n  q: *p\n")

    assert config.providers["p"] == config.providers["q"]


# --- interpolation


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${NAME}", "value"),
        ("a${NAME}b${NAME}", "avaluebvalue"),
        ("${MISSING:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("x${EMPTY}", "x"),
        ("${MISSING:-}x", "x"),
        ("$${NAME}", "${NAME}"),
        ("$$$$", "$$"),
        ("$NAME costs $5", "$NAME costs $5"),
    ],
)
def test_variables_are_put_into_text(written: str, expected: str) -> None:
    environ = {**ENVIRON, "NAME": "value"}
    text = WHOLE.replace("provider: p", f"provider: p, model: '{written}'")

    assert expected == parse(text, "f", environ=environ).rows()["m"][0].model


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1))
def test_what_a_variable_holds_is_never_read_as_yaml_or_as_a_variable(value: str) -> None:
    text = WHOLE.replace("provider: p", "provider: p, model: '${NAME}'")

    assert value == parse(text, "f", environ={**ENVIRON, "NAME": value}).rows()["m"][0].model


# --- mistakes of the text itself


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f:1:1: the configuration is empty; see the README for one to start from"),
        ("# only a comment", "f:1:1: the configuration is empty; see the README for one to start from"),
        ("- a", "f:1:1: a configuration is a mapping; begin with `providers:`"),
        (
            "a: [b",
            "f:2:1: this is not YAML: something else must stand here; look for an open [ or {, and at the indentation",
        ),
        (
            "a: b: c",
            "f:1:5: this is not YAML: the text up to here breaks a rule; look for an open quote, a tab, or a colon in "
            "a "
            "value without quotes",
        ),
        (
            "\na: {b: ${C}}",
            "f:2:9: this is not YAML: something else must stand here; look for an open [ or {, and at the indentation; "
            "inside { } or [ ], put ${NAME} in quotes",
        ),
        ("a: *b", "f:1:4: this is not YAML: nothing before this alias has its name; write the value out"),
        ("a: 1\n---\nb: 2", "f:2:1: this is not YAML: a second document begins here; write one, without ---"),
        ("a: 1\nb: \x01", "f:2:1: this is not YAML: a control character; remove it"),
        ("a: 1\nb: 2\na: 3", "f:3:1: a: this key was already given on line 1; leave one of them out"),
        (
            "a: !!python/object:os.system x",
            "f:1:4: a: the tag 'tag:yaml.org,2002:python/object:os.system' is not supported; remove it",
        ),
        ("a: &x {b: 1}\nc: {<<: *x}", 'f:2:5: c."<<": merge keys are not supported; write the keys out'),
        ("a: &x [*x]", "f:1:4: a[0]: this alias contains itself; write the value out"),
        ("? [a, b]\n: 1", "f:1:3: a key must be text; write a name"),
        (
            "a: $MISSING ${MISSING}",
            "f:1:4: a: environment variable MISSING is not set; set it, or write ${MISSING:-default}",
        ),
        (
            "a: '${not a name}'",
            "f:1:4: a: this ${ does not begin a variable; write ${NAME} or ${NAME:-default}, or $${ for a literal ${",
        ),
        (
            "a: '${UNCLOSED'",
            "f:1:4: a: this ${ does not begin a variable; write ${NAME} or ${NAME:-default}, or $${ for a literal ${",
        ),
        *(
            (nested, "f:1:1: the values are nested too deeply; the README shows the shape of a configuration")
            for nested in (
                "[" * 3000 + "]" * 3000,
                "- " * 3000 + "a",
                "\n".join(" " * depth + "a:" for depth in range(1500)),
            )
        ),
    ],
)
def test_what_is_no_configuration_is_told_by_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse(text, "f", environ=ENVIRON)

    assert told == found.value.message


def test_aliases_of_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    with pytest.raises(ConfigError, match="more than 200000 values, aliases counted each time; make it smaller"):
        parse("\n".join(lines), "f", environ={})


# --- mistakes of what it says


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listen: {prot: 1}", "1:10: listen.prot: there is no such key; did you mean port?"),
        (
            "listen: {zzz: 1}",
            "1:10: listen.zzz: there is no such key; have address, cors, more, port, response_headers, tls",
        ),
        ("lissten: {}", "1:1: lissten: there is no such key; did you mean listen?"),
        (
            "models: {gpt-4.1: [{provider: p, modell: x}]}",
            '1:34: models."gpt-4.1"[0].modell: there is no such key; did you mean model?',
        ),
        ("listen: {port: 0}", "1:16: listen.port: '0': this number is out of range; write one from 1 to 65535"),
        ("listen: {port: 1.5}", "1:16: listen.port: '1.5': this is not a whole number; write one in digits"),
        ("listen: {port: true}", "1:16: listen.port: 'true': this is not a whole number; write one in digits"),
        ("listen: {port: [1]}", "1:16: listen.port: this is not a whole number; write one in digits"),
        (
            "listen: {address: localhost}",
            "1:19: listen.address: 'localhost': this is not an IP address; write 127.0.0.1 for this machine, "
            "0.0.0.0 for all "
            "interfaces",
        ),
        (
            "listen: {tls: {}}",
            "1:15: listen.tls: a certificate and a private_key are needed; give both, or generate: true",
        ),
        (
            "listen: {tls: {certificate: no.pem}}",
            "1:29: listen.tls.certificate: 'no.pem': there is no such file; give the path of one; a relative "
            "path begins "
            "at the configuration file",
        ),
        ("agent: {workers: many}", "1:18: agent.workers: 'many': this is not a whole number; write one in digits"),
        (
            "agent: {state_dir: 7}",
            "1:20: agent.state_dir: '7': this is not a path; write a path; a relative one begins at the "
            "configuration file",
        ),
        (
            "agent: {shutdown_grace: 10}",
            "1:25: agent.shutdown_grace: '10': this is not a duration; write a number and its unit: 250ms, 5s, 2m, 1h",
        ),
        (
            "agent: {shutdown_grace: soon}",
            "1:25: agent.shutdown_grace: 'soon': this is not a duration; write a number and its unit: 250ms, 5s, 2m, "
            "1h",
        ),
        (
            "agent: {shutdown_grace: 9000h}",
            "1:25: agent.shutdown_grace: '9000h': this duration is over a year; write a number and its unit: "
            "250ms, 5s, "
            "2m, 1h",
        ),
        ("timeouts: {connect: 0s}", "1:21: timeouts.connect: '0s': this duration is too short; write 1ms or more"),
        (
            "limits: {request_body: 32}",
            "1:24: limits.request_body: '32': this is not a size; write a number and its unit: 64KiB, 32MiB, 1GiB",
        ),
        (
            "limits: {request_body: 5GiB}",
            "1:24: limits.request_body: '5GiB': this size is not between 1B and 4GiB; write a number and its "
            "unit: 64KiB, "
            "32MiB, 1GiB",
        ),
        (
            "limits: {request_headers: 9MiB}",
            "1:27: limits.request_headers: '9MiB': this size is not between 1KiB and 8MiB; 60KiB is Envoy's own "
            "default",
        ),
        (
            "retries: {attempts: 21}",
            "1:21: retries.attempts: '21': this number is out of range; write one from 1 to 20",
        ),
        (
            "retries: {on_status: [200]}",
            "1:23: retries.on_status[0]: '200': this number is out of range; write one from 400 to 599",
        ),
        (
            "retries: {back_off: {base: 2s, max: 1s}}",
            "1:21: retries.back_off: max is shorter than base; make it as long or longer",
        ),
        (
            "envoy: {admin: {port: 1, socket: /x}}",
            "1:16: envoy.admin: both socket and port are given; leave one of them out",
        ),
        (
            "envoy: {log_level: loud}",
            "1:20: envoy.log_level: 'loud': this is not one of trace, debug, info, warning, error, critical, off; "
            "write one "
            "of them, such as trace",
        ),
        ("envoy: {version: 1.40}", "1:18: envoy.version: '1.40': this is not text; put it in quotes"),
        ("envoy: {raw: 7}", "1:14: envoy.raw: '7': this is not a mapping; write keys and values below it"),
        ("envoy: {access_log: ''}", "1:21: envoy.access_log: '': this is empty; write some text, or leave the key out"),
        ("telemetry: []", "1:12: telemetry: this is not a mapping; write keys and values below it"),
        ("callers: []", "1:10: callers: there is no key, so no request would be accepted; give a tenant and a key"),
        ("callers: {}", "1:10: callers: this is not a list; write [one] or one item a line after -"),
        (
            "callers: [{tenant: a}]",
            "1:10: callers: there is no key, so no request would be accepted; give a tenant and a key",
        ),
        (
            "callers: [{tenant: a b, keys: []}]",
            "1:20: callers[0].tenant: 'a b': this is not a name; use up to 64 of A-Z a-z 0-9 . _ @ -, and begin with a "
            "letter or digit",
        ),
        (
            "callers: [{tenant: a, keys: [{id: x}]}]",
            "1:30: callers[0].keys[0]: exactly one of key and hash is needed; give key: {env: NAME} or hash: "
            "hmac-sha256:…",
        ),
        (
            "callers: [{tenant: a, keys: [{id: x, hash: sk-plain}]}]",
            '1:44: callers[0].keys[0].hash: this is not a stored key; write "hmac-sha256:" and 64 digits of 0-9a-f',
        ),
        (
            "callers: [{tenant: a, keys: [{id: x, key: {env: SHORT}}]}]",
            "1:43: callers[0].keys[0].key: this is not a strong key; give 16 to 512 printable ASCII characters without "
            "spaces",
        ),
        (
            "callers: [{tenant: a, keys: [{id: x, key: {env: KEY}, expires: soon}]}]",
            "1:64: callers[0].keys[0].expires: 'soon': this is not a date; write 2027-01-31 or "
            "2027-01-31T18:00:00+01:00",
        ),
        (
            "callers: [{tenant: a, keys: [{id: x, key: {env: KEY}}]}, {tenant: a, keys: []}]",
            "1:67: callers[1].tenant: 'a' was already given; give each tenant once",
        ),
        (
            "callers: [{tenant: a, keys: [{id: x, key: {env: KEY}}]}, {tenant: b, keys: [{id: x, key: {env: KEY}}]}]",
            "1:82: callers[1].keys[0].id: 'x' was already given; give each id once",
        ),
        (
            "auth: {pepper: {env: SHORT}}",
            "1:16: auth.pepper: this pepper is too short; give 16 or more random characters",
        ),
        ("auth: {}", "1:7: auth.pepper: this key is missing; add it"),
        (
            "providers: {p.q: {kind: openai, api_key: {env: KEY}}}",
            '1:13: providers."p.q": this is not a provider\'s name; use up to 64 of A-Z a-z 0-9 _ -, and begin '
            "with a letter "
            "or digit",
        ),
        ("providers: {p: {kind: openai}}", "1:16: providers.p: api_key is missing; give {env: NAME} or {file: path}"),
        (
            "providers: {p: {kind: openai, host: groq}}",
            "1:37: providers.p.host: 'groq': kind openai has no hosts to choose from; leave it out",
        ),
        (
            "providers: {p: {kind: openai, api_key: {env: KEY}, api: converse}}",
            "1:57: providers.p.api: 'converse': kind openai has no such api; have chat, responses; write one of them",
        ),
        (
            "prices: [{provider: q, model: m, input: 1}]",
            "1:21: prices[0].provider: there is no provider 'q'; have p",
        ),
        (
            "prices: [{provider: p, model: m, search: 1, tiers: {flex: 0.5}}]",
            "1:10: prices[0]: this row has no price; give input: and output:, dollars for a million tokens",
        ),
        (
            "prices: [{provider: p, model: m, cache_read: 1}]",
            "1:10: prices[0]: this row has no price; give input: and output:, dollars for a million tokens",
        ),
        (
            "prices: [{provider: p, model: m, input: -1}]",
            "1:41: prices[0].input: '-1': this is not an amount of money; write dollars, such as 25 or 12.50, "
            "with at most six digits behind the point",
        ),
        (
            "endpoints: {/v1/files: q}",
            "1:24: endpoints.\"/v1/files\": there is no provider 'q'; have p",
        ),
        (
            "endpoints: {/v1/files/: p}",
            "1:13: endpoints.\"/v1/files/\": 'p': this is not a path of an API; "
            "write it as callers do, without a slash at its end: /v1/files",
        ),
        (
            "endpoints: {/v1/files: {provider: p, tenants: [x]}}",
            "1:47: endpoints.\"/v1/files\".tenants: there is no tenant 'x'; have dev",
        ),
        (
            "callers: [{tenant: a, keys: [{id: a, key: {env: KEY}}]}, {tenant: b, keys: []}]\n"
            "providers: {p: {kind: openai, api_key: {env: KEY}, shared_account: false}}\n"
            "endpoints: {/v1/moderations: p, /v1/batches: p, /v1/voices: {provider: p, shared: true}}",
            '3:46: endpoints."/v1/batches": every tenant would see the objects that the others store there; '
            "name the tenants that may use it: {provider: p, tenants: [a]}",
        ),
        (
            "providers: {p: {kind: openai, api_key: {env: KEY}, api_version: 2024-10-21}}",
            "1:65: providers.p.api_version: '2024-10-21': kind openai has no api_version; leave it out",
        ),
        (
            "providers: {p: {kind: azure, base_url: https://a.openai.azure.com, api_version: yesterday}}",
            "1:81: providers.p.api_version: 'yesterday': this is not an api version; write one as Azure does, such as "
            "2024-10-21",
        ),
        (
            "providers: {p: {kind: openai_compatible, host: cloudflare, api_key: {env: KEY}}}",
            "1:16: providers.p: account is missing; give the id that the host's console shows",
        ),
        (
            "providers: {p: {kind: vertex, credential: {kind: google}, region: us-east5}}",
            "1:16: providers.p: project is missing; give it: it is a part of every path",
        ),
        (
            "models: {m: [{provider: p, api: converse}]}",
            "1:33: models.m[0].api: kind openai has no api 'converse'; have chat, responses",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'ftp://x'}}",
            "1:41: providers.p.base_url: 'ftp://x': this URL does not begin with https:// or http://; write "
            "http(s)://host[:port]/path, such as https://api.openai.com/v1",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'https://'}}",
            "1:41: providers.p.base_url: 'https://': this URL has no host; write http(s)://host[:port]/path, such as "
            "https://api.openai.com/v1",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'https://x:99999'}}",
            "1:41: providers.p.base_url: 'https://x:99999': this is not a URL; write http(s)://host[:port]/path, such "
            "as "
            "https://api.openai.com/v1",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'https://me:secret@x'}}",
            "1:41: providers.p.base_url: this URL contains a user or a password; leave it out, and give the key as "
            "api_key",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'https://x/?a=1'}}",
            "1:41: providers.p.base_url: 'https://x/?a=1': this URL has a query or a fragment; write "
            "http(s)://host[:port]/path, such as https://api.openai.com/v1",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'https://x/a b'}}",
            "1:41: providers.p.base_url: 'https://x/a b': this URL's path contains a character that is not allowed in "
            "a URL; write "
            "http(s)://host[:port]/path, such as https://api.openai.com/v1",
        ),
        (
            "providers: {p: {kind: openai, base_url: 'http://llm.example/v1'}}",
            "1:41: providers.p.base_url: 'http://llm.example/v1': this URL would send prompts and keys unencrypted to "
            "another machine; use https://, or set allow_plaintext: true",
        ),
        (
            "providers: {p: {kind: openai, api_key: {env: TWO_LINES}}}",
            "1:40: providers.p.api_key: this secret contains a character that is not allowed in an API key; give "
            "printable ASCII on one "
            "line",
        ),
        (
            "providers: {p: {kind: openai, api_key: {env: KEY}, pool: {http2: maybe}}}",
            "1:66: providers.p.pool.http2: 'maybe': this is not one of auto, true, false; write auto to negotiate it "
            "with TLS",
        ),
        ("models: {m: []}", "1:13: models.m: there are no candidates; name one: [{provider: openai}]"),
        ("models: {m: [{provider: q}]}", "1:25: models.m[0].provider: there is no provider 'q'; have p"),
        ("admin: {port: 10000}", "1:15: admin.port: port 10000 is also the port of listen.port; choose another one"),
    ],
)
def test_every_mistake_is_one_line_with_its_place_and_what_would_be_right(text: str, told: str) -> None:
    assert f"f:{told}" == mistake(text)


def test_a_kind_that_there_is_not_is_told_with_those_that_there_are() -> None:
    have = ", ".join(registry.names("providers"))

    assert (
        f"f:1:23: providers.p.kind: 'opnai': there is no such kind of provider; have {have}; write one of them"
    ) == mistake("providers: {p: {kind: opnai}}")


def test_a_host_that_is_not_known_is_told_with_those_that_are() -> None:
    told = mistake("providers: {p: {kind: openai_compatible, host: grok}}")

    assert told.startswith("f:1:48: providers.p.host: 'grok': there is no such host; have avian, ")
    assert "give base_url, or a host: avian" in mistake("providers: {p: {kind: openai_compatible}}")


def test_a_glob_may_name_a_model_and_a_candidate_a_provider_once_more() -> None:
    config = read("models: {'gpt-*': [{provider: p, model: gpt-4o}, {provider: p}]}")

    assert (Candidate("p", "gpt-4o"), Candidate("p", "")) == config.rows()["gpt-*"]


@pytest.mark.parametrize(
    ("said", "url"),
    [
        (
            "kind: vertex, credential: {kind: google}, project: p, region: global",
            "https://aiplatform.googleapis.com/v1",
        ),
        (
            "kind: vertex, credential: {kind: google}, project: p, region: us-east5",
            "https://us-east5-aiplatform.googleapis.com/v1",
        ),
        ("kind: vertex, api_key: {env: KEY}", "https://aiplatform.googleapis.com/v1"),
        (
            "kind: openai_compatible, host: cloudflare, api_key: {env: KEY}, account: abc",
            "https://api.cloudflare.com/client/v4/accounts/abc/ai/v1",
        ),
    ],
)
def test_an_address_may_hold_what_config_says(said: str, url: str) -> None:
    assert url == read(f"providers: {{p: {{{said}}}}}").providers["p"].url


def test_an_api_of_a_candidate_goes_before_that_of_its_provider() -> None:
    config = read(
        "providers: {p: {kind: openai, api_key: {env: KEY}, api: chat}}\n"
        "models: {m: [{provider: p, api: responses}, {provider: p}]}"
    )

    assert (Candidate("p", "", "openai_responses"), Candidate("p", "", "openai_chat")) == config.rows()["m"]


def test_tls_is_either_ours_or_theirs(tmp_path: Path) -> None:
    (tmp_path / "a.pem").touch()

    assert "f:1:15: listen.tls: both generate and a certificate are given; leave one of them out" == mistake(
        "listen: {tls: {generate: true, certificate: a.pem, private_key: a.pem}}", tmp_path
    )


def test_several_mistakes_are_several_lines_in_the_order_of_the_file() -> None:
    told = mistake("listen:\n  port: 0\n  adress: x\nadmin:\n  port: x\n")

    assert ["f:2:9", "f:3:3", "f:5:9"] == [line.partition(": ")[0] for line in told.splitlines()]


def test_a_socket_path_that_the_kernel_would_refuse_is_refused_first() -> None:
    told = mistake(f"agent: {{workers: 1, state_dir: /{'x' * 100}}}")

    assert told.startswith("f:1:8: agent.sockets: /xxx")
    assert "has 122 bytes, and the path of a Unix socket may have 107; choose a shorter directory" in told


# --- secrets


def test_a_secret_comes_from_a_variable_a_file_or_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"from a file, with spaces\r\n")

    def secret(written: str) -> str:
        found = read(f"providers: {{p: {{kind: openai, api_key: {written}}}}}", tmp_path).providers["p"].api_key
        assert found is not None
        return found.reveal()

    assert KEY == secret("{env: KEY}") == secret("'${KEY}'")
    assert "from a file, with spaces" == secret("{file: key}") == secret(f"{{file: {tmp_path}/key}}")
    assert "text" == secret("text")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{env: NOT_SET}", "environment variable NOT_SET is not set; set it, or give {file: path}"),
        ("{env: EMPTY}", "environment variable EMPTY is empty; " + RIGHT),
        ("'${EMPTY}'", "the secret is empty; " + RIGHT),
        (
            "{file: BASE/none}",
            "file BASE/none cannot be read: No such file or directory; give the path of a file that holds it",
        ),
        ("{file: BASE}", "file BASE cannot be read: Is a directory; give the path of a file that holds it"),
        ("{file: BASE/empty}", "file BASE/empty is empty; " + RIGHT),
        ("{file: BASE/binary}", "file BASE/binary is not UTF-8 text; give a file that holds only the secret"),
        ("{file: BASE/large}", "file BASE/large is over 64 KiB; give a file that holds only the secret"),
        ("{env: KEY, file: x}", "this is not a secret; " + RIGHT),
        ("{environment: KEY}", "this is not a secret; " + RIGHT),
        ("12345", "this is not a secret; " + RIGHT),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_without_it(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET_FILE + 1))
    text = f"providers: {{p: {{kind: openai, api_key: {written.replace('BASE', str(tmp_path))}}}}}"

    expected = told.replace("BASE", str(tmp_path))
    assert f"f:1:40: providers.p.api_key: {expected}" == mistake(text, tmp_path)


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret("sk-very-secret")
    config = read("")

    assert "***" == str(secret) == repr(secret) == f"{secret}"
    assert KEY not in repr(config)
    assert KEY not in str(config)
    assert KEY not in repr(config.model_dump())
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError) as found:
            write(secret)
        assert "very" not in str(found.value)
    with pytest.raises(PydanticSerializationError) as refused:
        config.model_dump_json()
    assert KEY not in str(refused.value)
    with pytest.raises(TypeError):
        pickle.dumps(config.providers["p"])
    with pytest.raises(TypeError):
        vars(secret)


def test_secrets_are_equal_by_what_they_hold_and_copies_are_the_same() -> None:
    secret = Secret("a")

    assert secret == Secret("a") != Secret("b")
    assert secret != "a"
    assert hash(secret) == hash(Secret("a"))
    assert secret is copy.copy(secret) is copy.deepcopy(secret)


@pytest.mark.parametrize(
    "text",
    [
        "listen: {port: '${KEY}'}",
        "listen: {address: '${KEY}'}",
        "providers: {p: {kind: openai, base_url: '${KEY}'}}",
        "providers: {p: {kind: '${KEY}'}}",
        "providers: {p: {kind: openai, api_key: ['${KEY}']}}",
        "models: {m: '${KEY}'}",
        "envoy: {log_level: '${KEY}'}",
        "callers: [{tenant: '${KEY} ', keys: []}]",
        "callers: [{tenant: a, keys: [{id: x, hash: '${KEY}'}]}]",
        "unknown: '${KEY}'",
    ],
)
def test_what_comes_from_the_environment_is_in_no_error_and_in_no_traceback(text: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(text)

    assert KEY not in found.value.message
    assert KEY not in "".join(traceback.format_exception(found.value))
    assert found.value.__context__ is None


def test_settings_without_surroundings_are_a_bug() -> None:
    with pytest.raises(TypeError, match="with its surroundings"):
        Config.model_validate({"auth": {"pepper": "x"}})


# --- files and defaults


def test_a_file_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    (tmp_path / ".edge").mkdir()
    (tmp_path / ".edge" / "pepper").write_text(PEPPER + "\n")
    path.write_bytes(b"\xef\xbb\xbf" + (CALLERS + PROVIDERS + MODELS).encode())

    config = load(path, ENVIRON)

    assert PEPPER == config.auth.pepper.reveal()
    assert tmp_path / ".edge" == config.agent.state_dir


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, binary, large = tmp_path / "missing", tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"a: 1\nb: \xff")
    large.write_bytes(b"#" * ((16 << 20) + 1))

    for path, told in (
        (missing, f"{missing}: cannot be read: No such file or directory; give the path of a configuration file"),
        (binary, f"{binary}:2:1: this is not UTF-8; save the file in that encoding"),
        (large, f"{large}: is over 16 MiB; give the path of a configuration file"),
    ):
        with pytest.raises(ConfigError) as found:
            load(path, {})
        assert told == found.value.message


def test_a_missing_pepper_is_told_by_the_file_where_it_should_lie() -> None:
    with pytest.raises(ConfigError) as found:
        parse(CALLERS + PROVIDERS + MODELS, "f", environ=ENVIRON, base=Path("/nowhere"))

    assert (
        "f:1:1: auth.pepper: file /nowhere/.edge/pepper cannot be read: No such file or directory; "
        "give the path of a file that holds it, or set auth: {pepper: {env: EDGE_PEPPER}} and give that variable "
        "a random text (openssl rand -hex 32)"
    ) == found.value.message


@pytest.fixture
def state(tmp_path: Path) -> Path:
    # A dollar sign in a path is no variable.
    path = tmp_path / "state $x"
    path.mkdir()
    (path / "dev-key").write_text(KEY)
    (path / "pepper").write_text(PEPPER)
    return path


def test_without_any_provider_the_rehearsal_answers_for_all_models(state: Path) -> None:
    config = default({}, state, rehearsal_port=10099, port=1, admin_port=2)

    assert not has_key({"OPENAI_API_KEY": ""})
    assert (1, 2) == (config.listen.port, config.admin.port)
    assert {
        "rehearsal-openai": ("openai", "http://127.0.0.1:10099/v1"),
        "rehearsal-anthropic": ("anthropic", "http://127.0.0.1:10099/v1"),
    } == {name: (p.kind, p.url) for name, p in config.providers.items()}
    assert {
        "chat": "rehearsal-openai",
        "embedding": "rehearsal-openai",
        "rehearsal": "rehearsal-openai",
        "rehearsal-anthropic": "rehearsal-anthropic",
        "gpt-*": "rehearsal-openai",
        "claude-*": "rehearsal-anthropic",
        "*": "rehearsal-openai",
    } == {name: found.candidates[0].provider for name, found in config.models.items()}
    assert config.conversations is not None
    assert config.providers["rehearsal-openai"].profile.stores_replies is False
    (caller,) = config.callers
    assert ("dev", "dev", KEY) == (caller.tenant, caller.keys[0].id, caller.keys[0].key and caller.keys[0].key.reveal())


KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")


@pytest.mark.parametrize(
    ("names", "chat", "embedding"),
    [
        (("OPENAI_API_KEY",), ("openai", "gpt-4o-mini"), ("openai", "text-embedding-3-small")),
        (("ANTHROPIC_API_KEY",), ("anthropic", "claude-haiku-4-5"), None),
        (("GEMINI_API_KEY",), ("google", "gemini-2.5-flash"), ("google", "gemini-embedding-001")),
        (("GOOGLE_API_KEY",), ("google", "gemini-2.5-flash"), ("google", "gemini-embedding-001")),
        (KEYS[1:], ("anthropic", "claude-haiku-4-5"), ("google", "gemini-embedding-001")),
        (KEYS, ("openai", "gpt-4o-mini"), ("openai", "text-embedding-3-small")),
    ],
)
def test_the_providers_whose_keys_are_at_hand_are_used(
    state: Path, names: tuple[str, ...], chat: tuple[str, str], embedding: tuple[str, str] | None
) -> None:
    environ = {**dict.fromkeys(KEYS, ""), **{name: f"the {name}" for name in names}}
    config = default(environ, state, rehearsal_port=1)

    assert has_key(environ)
    rows = config.rows()
    assert [Candidate(*chat)] == list(rows["chat"])
    assert ([Candidate(*embedding)] if embedding is not None else []) == list(rows.get("embedding", ()))
    for each in default_providers():
        assert (each.name in config.providers) == bool({*names} & {*each.default.keys})
        for name in (*each.default.models, *each.default.families):
            assert ([Candidate(each.name, "")] if each.name in config.providers else []) == list(rows.get(name, ()))


def test_of_two_keys_of_a_provider_the_first_counts(state: Path) -> None:
    environ = {"GOOGLE_API_KEY": "the first", "GEMINI_API_KEY": "the second"}
    key = default(environ, state, rehearsal_port=1).providers["google"].api_key

    assert key is not None
    assert "the first" == key.reveal()


def test_a_key_of_this_gateway_is_no_providers(state: Path) -> None:
    assert not has_key({"OPENAI_API_KEY": KEY})
    assert ["google"] == list(
        default({"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": "x"}, state, rehearsal_port=1).providers
    )


def _price_list(provider: BuiltinProvider) -> str:
    plugin = registry.load("providers", provider.kind)
    return provider.kind if provider.host is None else str(plugin.hosts[provider.host].price_list)


def test_a_key_of_each_other_host_serves_its_own_models(state: Path) -> None:
    """Two hosts may have a model of one name: the preferred one serves it."""
    hosts = [each for each in default_providers() if each.host is not None]
    for each in hosts:
        config = default({each.default.keys[0]: "a key"}, state, rehearsal_port=0)
        rows = config.rows()
        assert [each.name] == list(config.providers)
        assert [Candidate(each.name, each.default.chat)] == list(rows["chat"])
        assert ("embedding" in rows) == (each.default.embedding is not None)

    everything = default({each.default.keys[0]: "a key" for each in default_providers()}, state, rehearsal_port=0)
    assert "openrouter" in {each.name for each in hosts}
    assert [Candidate("openai", "gpt-4o-mini")] == list(everything.rows()["chat"])


def test_a_server_on_this_machine_serves_what_it_lists(state: Path) -> None:
    server = LocalServer(
        "ollama", "openai_compatible", "http://127.0.0.1:9/v1", ("nomic-embed-text:latest", "llama3.2")
    )
    alone = default({}, state, rehearsal_port=0, local=[server])
    beside = default({"OPENAI_API_KEY": "a key"}, state, rehearsal_port=0, local=[server])

    assert ["ollama"] == list(alone.providers)
    assert "http://127.0.0.1:9/v1" == alone.providers["ollama"].url
    assert {
        "chat": (Candidate("ollama", "llama3.2"),),
        "embedding": (Candidate("ollama", "nomic-embed-text:latest"),),
        "nomic-embed-text:latest": (Candidate("ollama", ""),),
        "llama3.2": (Candidate("ollama", ""),),
    } == alone.rows()
    assert ["openai", "ollama"] == list(beside.providers)
    assert (Candidate("openai", "gpt-4o-mini"),) == beside.rows()["chat"]
    assert (Candidate("ollama", ""),) == beside.rows()["llama3.2"]


def test_a_server_with_embeddings_alone_has_no_chat(state: Path) -> None:
    server = LocalServer("ollama", "openai_compatible", "http://127.0.0.1:9/v1", ("bge-m3",))

    assert ["embedding", "bge-m3"] == list(default({}, state, rehearsal_port=0, local=[server]).models)


def test_every_chat_model_that_is_listed_by_default_is_one_that_has_a_price(tmp_path: Path) -> None:
    with_prices(tmp_path)
    table = prices.load(prices.compiled(tmp_path))
    chats = [
        (_price_list(each), name)
        for each in default_providers()
        for name in (*each.default.models, each.default.chat)
        if not re.search("embed|image|tts|transcribe|whisper|moderation", name)
    ]

    assert len(chats) > 30
    assert [] == [each for each in chats if table.cost(*each, Usage(input=1, output=1)) is None]


def test_the_defaults_hold_no_secret_and_a_mistake_in_them_says_so(state: Path) -> None:
    assert "sk-x" not in default_text({"OPENAI_API_KEY": "sk-x"}, state, rehearsal_port=1)
    (state / "dev-key").unlink()
    with pytest.raises(ConfigError, match=f"^{DEFAULT_NAME}:6:"):
        default({}, state, rehearsal_port=1)


# --- the schema


def test_the_json_schema_tells_an_editor_every_key_its_default_and_what_it_means() -> None:
    found = schema()

    definitions = found["$defs"]
    assert "1m" == definitions["TimeoutsConfig"]["properties"]["receive"]["default"]
    assert "32MiB" == definitions["BodyLimitsConfig"]["properties"]["request_body"]["default"]
    assert "auto" == definitions["AgentConfig"]["properties"]["workers"]["default"]
    assert "description" in definitions["PoolConfig"]["properties"]["keepalive"]
    assert ["callers", "providers", "models"] == found["required"]
    assert not definitions["ListenConfig"]["additionalProperties"]


def test_every_part_refuses_unknown_keys_and_is_frozen() -> None:
    def parts(part: type[ConfigSection]) -> list[type[ConfigSection]]:
        return [part, *(p for below in part.__subclasses__() for p in parts(below))]

    for part in parts(ConfigSection):
        assert part.model_config["extra"] == "forbid"
        assert part.model_config["frozen"]
