"""Small configurations for tests of single sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError

ENVIRON = {"KEY": "edge-0123456789abcdef0123456789", "OTHER": "edge-another-key-0123456789abcdef"}
SECTIONS = {
    "auth": "auth: {pepper: pepper-pepper-pepper}\n",
    "callers": "callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]\n",
    "providers": "providers: {p: {kind: openai, api_key: {env: KEY}}}\n",
    "models": "models: {m: [{provider: p}]}\n",
}
ONE = "providers: {p: {kind: openai, base_url: 'http://127.0.0.1:1/v1', api_key: {env: KEY}}}\n"
TWO = (
    "providers: {p: {kind: openai, base_url: 'http://127.0.0.1:1/v1', api_key: {env: KEY}}, "
    "q: {kind: openai, base_url: 'http://127.0.0.1:2/v1', api_key: {env: KEY}}}\n"
)


def read(text: str, base: Path = Path("/nowhere")) -> Config:
    """`text`, and behind it every section that it needs and does not have."""
    given = {line.partition(":")[0] for line in text.splitlines()}
    rest = "".join(section for name, section in SECTIONS.items() if name not in given)
    return parse(text.rstrip("\n") + "\n" + rest, "f", environ=ENVIRON, base=base)


def mistake(text: str, base: Path = Path("/nowhere")) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, base)
    return caught.value.message
