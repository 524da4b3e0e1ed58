"""The blocks and commands of a page of the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text("utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


def commands(page: str, program: str = "edge-extproc") -> list[list[str]]:
    """The words after the program's name, of each of its commands on a page."""
    text = "\n".join(blocks(page, "sh", "")).replace("\\\n", " ")
    lines = [re.sub(r"\s+#.*$", "", line.strip()) for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]
