"""The detector of credentials: each format, what is nearly one, and rules of a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cells import each_cell
from example_values import example, width
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.config.surroundings import Surroundings
from edge_extproc.errors import ConfigError
from edge_extproc.guardrails.credential_formats import FORMATS, CredentialFormat
from edge_extproc.guardrails.detectors.credentials import PLUGIN, CredentialsOptions

ROOT = Path(__file__).resolve().parents[4]
EVERYTHING = PLUGIN.build(CredentialsOptions())
# Divided, because hosts of source code refuse what looks like a token. It belongs to nobody.
GITHUB = "ghp" + "_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17"
# The header and the payload of a token are JSON.
JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "A. N. Other"})
)
JWT += ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def found(text: str, detector=EVERYTHING) -> list[tuple[str, str]]:
    return [(each.label, text[each.start : each.end]) for each in detector.find(text, "user")]


def made(each: CredentialFormat, word: str, seed: int = 0, *, longest: bool = False) -> str:
    if each.label == "jwt":
        return JWT
    before = example(each.before, seed) if each.before else ""
    return before + word + example(each.after, seed, longest=longest)


def only(each: CredentialFormat):
    return PLUGIN.build(CredentialsOptions(formats=(each.label,)))


@each_cell("each", FORMATS, ids=[each.label for each in FORMATS], parts=4)
def test_a_value_of_each_format_is_found_in_prose_in_json_and_in_a_program(each: CredentialFormat) -> None:
    detector = only(each)
    for word in each.words:
        for longest in (False, True):
            value = made(each, word, longest=longest)
            texts = [f"Use {value} for it.", f"KEY='{value}'", f"{value}\\n"]
            if not longest:
                texts.append(json.dumps({"content": json.dumps(f"key\n{value}\n")}))
            for text in texts:
                labels = found(text, detector)

                assert [each.label] == [label for label, _ in labels], (text, labels)
                assert labels[0][1] in text


WHOLE_WORDS = [each for each in FORMATS if each.whole_word and each.words[0][0].isalnum()]


@each_cell("each", WHOLE_WORDS, ids=[each.label for each in WHOLE_WORDS])
def test_a_word_within_a_longer_one_is_no_value(each: CredentialFormat) -> None:
    detector = only(each)
    for word in each.words:
        assert [] == found("x" + made(each, word), detector)


# The end of these is optional, or has any length.
ANY_LENGTH = {"jwt", "private_key", "private_key_header", "url_password", "databricks_token", "grafana_cloud_token"}


OF_A_LENGTH = [each for each in FORMATS if each.label not in ANY_LENGTH]


@each_cell("each", OF_A_LENGTH, ids=[each.label for each in OF_A_LENGTH])
def test_a_value_with_a_character_too_few_is_none(each: CredentialFormat) -> None:
    detector = only(each)
    for word in each.words:
        value = made(each, word).rstrip("=")

        assert [] == found(value[:-1], detector), value


@pytest.mark.parametrize("text", [
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ghp_000000000000000000000000000000000000", "AKIAAAAAAAAAAAAAAAAA",
    "api_key = YOUR_API_KEY_HERE_123", "password: ${DB_PASSWORD_2}", "token = process.env.TOKEN_V2",
    "secret: os.environ['SECRET_1']", "max_tokens: 4096", '"token_count": 123456789012',
    "password = input_password_field1",
    "postgres://user:password@localhost/db", "postgres://$USER:$PASS@host/db", "https://example.com:8080/@scope/name",
    "authorization: Bearer <token>", "the secret: it is a long_identifier_name", "api_key=sample-key-000000001",
    "token: 2026-11-30T14:00:00", "the slovakian sk-learn package", "password: /run/secrets/db_password_1",
    "subject_token_type = _X509_SUBJECT_TOKEN_TYPE", "token = base64.b64encode(user)",
    "eyJub3QiOiJhIGp3dCJ9.eyJzdWIiOiJ4In0.abcdef", "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
])  # fmt: skip
def test_placeholders_names_and_programs_are_no_credentials(text: str) -> None:
    assert [] == found(text)


@pytest.mark.parametrize(("text", "label", "value"), [
    ("password: hunter2-And-More9", "named_secret", "hunter2-And-More9"),
    ('{"db_password": "q8Zr!vT2mLw0"}', "named_secret", "q8Zr!vT2mLw0"),
    ("client_secret=8f3aZ9kQw2Lm5Tx7", "named_secret", "8f3aZ9kQw2Lm5Tx7"),
    ("Authorization: Bearer 8f3aZ9kQw2Lm5Tx7vB", "bearer_token", "8f3aZ9kQw2Lm5Tx7vB"),
    ("mongodb+srv://joe:8f3aZ9kQ@host.example/db", "url_password", "8f3aZ9kQ"),
    ("aws_secret_access_key = 8f3aZ9kQw2Lm5Tx7vB/cD1eF4gH6iJ0kL2mN4oP6", "aws_secret_access_key",
     "8f3aZ9kQw2Lm5Tx7vB/cD1eF4gH6iJ0kL2mN4oP6"),
])  # fmt: skip
def test_a_value_beside_its_name_is_found_without_the_name(text: str, label: str, value: str) -> None:
    assert [(label, value)] == found(text)


def test_a_private_key_is_found_as_a_whole() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7\n" * 50 + "-----END RSA PRIVATE KEY-----"

    assert [("private_key", key)] == found(f"this is\n{key}\nmy key")
    assert [("private_key", json.dumps(key)[1:-1])] == found(f'{{"key": {json.dumps(key)}}}')


def test_the_header_of_a_private_key_is_a_format_of_its_own() -> None:
    """A stream that blocks at it holds fewer characters than one that masks the key."""
    detector = PLUGIN.build(CredentialsOptions(formats=("private_key_header",)))

    header = "-----BEGIN OPENSSH PRIVATE KEY-----"
    assert [("private_key_header", header)] == found(f"x {header}\nb3Bl", detector)
    assert detector.longest < 100 < EVERYTHING.longest


def test_a_wrong_checksum_is_a_finding_unless_the_configuration_says_otherwise() -> None:
    right, wrong = GITHUB, GITHUB[:-1] + "8"
    strict = PLUGIN.build(CredentialsOptions(checksums=True))

    assert [1, 1] == [len(found(right)), len(found(wrong))]
    assert [1, 0] == [len(found(right, strict)), len(found(wrong, strict))]


def test_formats_are_excluded() -> None:
    detector = PLUGIN.build(CredentialsOptions(exclude=("aws_access_key_id", "private_key", "jwt")))

    assert [] == found("AKIAQYLPMN5HFIQR7XYZ", detector)
    assert 600 >= detector.longest


def test_a_format_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'github' is no format"):
        CredentialsOptions(formats=("github",))


def test_there_are_formats_of_more_than_eighty_services() -> None:
    services = {service.strip() for each in FORMATS for service in each.service.split(",")} - {""}

    assert 80 <= len(services)


def test_each_label_is_a_word_and_no_format_is_twice() -> None:
    labels = [each.label for each in FORMATS]

    assert sorted(set(labels)) == sorted(labels)
    assert all(label.replace("_", "").isalnum() for label in labels)


@pytest.mark.parametrize(
    "unit",
    ["sk-", "eyJhbGciOiJIUzI1NiJ9.", "-----BEGIN PRIVATE KEY-----", "password=", "://a:", "AKIA", "token: a1", "EAA"],
)
def test_the_patterns_that_are_tried_grow_with_the_text_only(unit: str) -> None:
    """Each word is tried at most once, in at most `most` characters."""
    counts = []
    for size in (2_000, 4_000):
        text = (unit * size)[:size]
        counts.append(len(EVERYTHING._words.find_matches_as_indexes(text.encode(), overlapping=True)))

    assert counts[1] <= 2 * counts[0] + 4


@pytest.mark.parametrize("end", ["a8a!", "8a8a!", "_8_8a9a!"])
def test_no_value_makes_a_check_backtrack(end: str) -> None:
    """An underscore can be a letter of a name, or between two names. With backtracking, this would not end."""
    value = "_".join("qwertyuiopasdfghjklzxcvbnm") + "__" + end

    assert [("named_secret", value)] == found(f"password={value}")


WORDS = sorted({word for each in FORMATS for word in each.words})
PARTS = st.one_of(
    st.text(st.characters(), max_size=12),
    st.sampled_from(WORDS),
    st.sampled_from(
        [JWT, "AKIAQYLPMN5HFIQR7XYZ", base64.b64encode(b"AKIAQYLPMN5HFIQR7XYZ").decode(), "=", ": ", '"', "\\n"]
    ),
    st.text("abcdef0123456789ABCDEF-_.", max_size=40),
    st.binary(max_size=30).map(lambda data: data.decode("utf-8", "surrogateescape")),
)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(PARTS, max_size=10).map("".join))
def test_findings_are_in_order_and_within_any_text(text: str) -> None:
    end = 0
    for each in EVERYTHING.find(text, "user"):
        assert end <= each.start < each.end <= len(text)
        assert each.end - each.start <= EVERYTHING.longest
        end = each.end


def test_no_pattern_matches_more_than_its_bound() -> None:
    """`longest` follows from it."""
    for each in FORMATS:
        words = max(map(len, each.words))
        most = width(each.before) + words + width(each.after) if each.before else words + width(each.after)

        assert most <= each.most + each.most_before or each.label in {"jwt", "private_key"}, each.label
        assert width(each.before) <= each.most_before


# --- rules of a file

RULES = """
title = "rules of a company"

[allowlist]
stopwords = ["documentation"]

[[rules]]
id = "acme-key"
regex = '''acme_([a-z0-9]{16})'''
keywords = ["ACME_"]
entropy = 3.0

[[rules]]
id = "acme-pair"
regex = '''pair\\.([a-z]{4})\\.([0-9]{4})'''
secretGroup = 2
keywords = ["pair."]
[[rules.allowlists]]
regexTarget = "line"
regexes = ['''ignore this line''']

[[rules]]
id = "only-a-path"
path = '''id_rsa$'''

[[rules]]
id = "always"
regex = '''(?i)zz-[0-9]{6}'''
"""


def with_rules(tmp_path: Path, text: str):
    path = tmp_path / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return PLUGIN.build(CredentialsOptions.model_validate({"rules_file": path}, context=Surroundings({}, tmp_path)))


def test_rules_of_gitleaks_format_find_their_values(tmp_path: Path) -> None:
    detector = with_rules(tmp_path, RULES)

    assert [("acme-key", "x7f9q2m4k8w1z5v3")] == found("key acme_x7f9q2m4k8w1z5v3", detector)
    assert [("acme-pair", "1234")] == found("pair.abcd.1234", detector)
    assert [("always", "ZZ-123456")] == found("a ZZ-123456", detector)
    assert "github_token" in {label for label, _ in found(GITHUB, detector)}


@pytest.mark.parametrize("text", ["acme_aaaaaaaaaaaaaaaa", "pair.abcd.1234 # ignore this line", "acme_documentation12"])
def test_entropy_and_allowlists_of_the_rules_apply(tmp_path: Path, text: str) -> None:
    assert [] == found(text, with_rules(tmp_path, RULES))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[rules]]\nid='a'\nregex='''(?<=x)y'''", "rule 'a': the pattern is not one of RE2"),
        ("[[rules]]\nid='a'\nregex='x'\nsecretGroup=1", "secretGroup 1 does not exist"),
        ("[[rules]]\nregex='x'", "rule 1: it has no id"),
        ("[[rules]]\nid='a'", "it has no regex"),
        ("[[rules]]\nid='a'\nregex='x'\nkeywords='x'", "keywords is not a list of texts"),
        ("[[rules]]\nid='a'\nregex='x'\nentropy='x'", "entropy and secretGroup are numbers"),
        ("[[rules]]\nid='a'\nregex='x'\n[[rules.allowlists]]\nregexTarget='all'\nregexes=['x']", "regexTarget 'all'"),
        (
            "[[rules]]\nid='a'\nregex='x'\n[[rules.allowlists]]\ncondition='AND'\nstopwords=['x']\nregexes=['x']",
            "both match",
        ),
        ("[extend]\nuseDefault=true", "extend is not supported"),
        ("rules = 1", "rules is not a table"),
        ("", "there are no rules"),
        ("[[rules", "this is not TOML"),
    ],
)
def test_a_rule_that_cannot_work_is_an_error_that_names_it(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        with_rules(tmp_path, text)

    assert "rules.toml" in str(error.value)


@pytest.mark.parametrize("decode", [True, False])
def test_the_documentation_has_what_a_stream_holds(decode: bool) -> None:
    longest = [
        PLUGIN.build(CredentialsOptions(decode=decode, exclude=excluded)).longest
        for excluded in ((), ("private_key",), ("private_key", "jwt"))
    ]
    pages = [
        " ".join((ROOT / "docs" / name).read_text("utf-8").split())
        for name in ("guardrails-detectors.md", "configuration.md")
    ]
    with_key, with_jwt, others = longest

    assert f"{with_key:,}; {with_jwt:,} without `private_key`; {others} without `private_key` and `jwt`" in pages[0]
    assert f"{with_key} with private_key, {with_jwt} with jwt, {others} with all others" in pages[1]
