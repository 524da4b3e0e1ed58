"""Stages the documentation for `mkdocs build`: every tracked Markdown page, and each file that a page links to.

Pages keep their places, so that their links are right in the repository and in the site.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGE = ROOT / ".site" / "pages"
NOT_PAGES = ("changelog.d/", "protos/", "tests/", "bench/")
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")


def pages() -> list[Path]:
    """The tracked pages, relative to the root."""
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [Path(name) for name in found.stdout.splitlines() if not name.startswith(NOT_PAGES)]


def linked(page: Path) -> set[Path]:
    """The files that a page links to, relative to the root; a folder is none."""
    targets = ((ROOT / page.parent / link).resolve() for link in LINK.findall((ROOT / page).read_text("utf-8")))
    return {target.relative_to(ROOT) for target in targets if target.is_file()}


def stage() -> None:
    shutil.rmtree(STAGE, ignore_errors=True)
    own = pages()
    for file in {*own, *(file for page in own for file in linked(page))}:
        (STAGE / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, STAGE / file)


if __name__ == "__main__":
    stage()
