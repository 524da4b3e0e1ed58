"""The changelog has a section for the version, and fragments have names that say where they belong."""

from __future__ import annotations

import re
from pathlib import Path

from edge_extproc import __version__

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_has_a_section() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert __version__ in versions


def test_no_line_of_the_changelog_stands_twice() -> None:
    lines = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("- ")]

    assert sorted(set(lines)) == sorted(lines)


def test_fragments_say_what_kind_of_change_they_are() -> None:
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    odd = [name for name in names if not re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", name)]

    assert [] == odd
