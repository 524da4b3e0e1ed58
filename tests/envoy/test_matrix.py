"""Every API in, every provider out: the official SDKs through real Envoy, against the bytes of each provider's format.

The bytes are recorded ones where recordings lie beside the checkout, and else those of the project's own set.

docs/matrix.md shows the cells. It holds what ran here and nothing else: each test compares its rows with it, and
writes them if WRITE_MATRIX is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anthropic
import gateway as gateways
import openai
import pytest
import recordings
from google.genai import errors as google_errors
from outputs import OUTPUTS, expected, media_type, recorded, source
from replaying import Replaying
from sdk_calls import FEATURES, INPUTS, TELLING, Clients

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("many")]

TABLE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
REFUSED = (openai.BadRequestError, anthropic.BadRequestError)


@pytest.fixture(scope="session")
def clients(many: gateways.RunningGateway) -> Iterator[Clients]:
    found = Clients(many.url)
    yield found
    found.close()


def run(name: str, asker: str, feature: str, stream: bool, clients: Clients, replay: Replaying) -> str:
    """The sign of one cell. Raises AssertionError where the client does not see what the provider said."""
    output = OUTPUTS[name]
    found = recorded(output, feature, stream)
    assert found is not None, "no exchange answers this"
    body = recordings.body(found["response"])
    content_type = media_type(output, stream)
    replay.answers(body, content_type)
    try:
        seen = INPUTS[asker](clients, name, feature, stream)
    except REFUSED:
        return "400"
    except google_errors.ClientError as error:
        if error.code != 400:
            raise
        return "400"
    where = f"{asker} → {name}, {feature}, {'stream' if stream else 'reply'}, {found['id']}"
    said = expected(source(body, content_type, output, stream))
    assert 1 == len(replay.asked), where
    asked = replay.asked[0]
    assert f"sk-of-{name}" in {value.removeprefix("Bearer ") for value in asked.headers.values()}, where
    assert gateways.KEY not in str(asked.headers), where
    assert TELLING.get(feature, b"") in asked.body, where
    assert (said.text, said.calls) == (seen.text, seen.calls), where
    # An SDK gives the parts of a summary one by one; in one text they are separated by blank lines.
    assert not said.thinking or "".join(said.thinking.split()) == "".join(seen.thinking.split()), where
    assert (said.prompt, said.completion) == (seen.prompt, seen.completion), where
    return "✓"


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_sdk_sees_what_a_provider_said(name: str, clients: Clients, replay: Replaying) -> None:
    rows, broken = [], []
    for asker in INPUTS:
        signs = []
        for feature in FEATURES:
            pair = []
            for stream in (False, True):
                try:
                    pair.append(run(name, asker, feature, stream, clients, replay))
                except Exception as error:  # noqa: BLE001 - all that breaks is told at the end, together
                    broken.append(
                        f"{asker}, {feature}, {'stream' if stream else 'reply'}: {type(error).__name__}: {error}"
                    )
                    pair.append("✗")
            signs.append(" ".join(pair))
        rows.append(f"| {OUTPUTS[name].title} | {asker} | {' | '.join(signs)} |")

    assert not broken, "\n\n".join(broken)
    if os.environ.get("WRITE_MATRIX"):
        write(rows, OUTPUTS[name].title)
    assert rows == [line for line in TABLE.read_text().splitlines() if line.startswith(f"| {OUTPUTS[name].title} |")]


def write(rows: list[str], title: str) -> None:
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith(f"| {title} |")]
    at = next((n for n, line in enumerate(lines) if line.startswith("| --- |")), len(lines) - 1) + 1
    order = [output.title for output in OUTPUTS.values()]
    while (
        at < len(lines)
        and lines[at].startswith("| ")
        and order.index(lines[at].split(" | ")[0][2:]) < order.index(title)
    ):
        at += 1
    TABLE.write_text("\n".join([*lines[:at], *rows, *lines[at:]]) + "\n")


def test_the_table_has_no_row_that_no_test_ran() -> None:
    rows = [line.strip("| ").split(" | ")[:2] for line in TABLE.read_text().splitlines() if line.startswith("| ")][2:]

    assert [[output.title, asker] for output in OUTPUTS.values() for asker in INPUTS] == rows
