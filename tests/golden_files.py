"""Golden files: `golden/<dialect>/<case>.json` is a request of that dialect, and `<case>.<other>.json` beside it what
crosses over into another: the body and what was dropped, or why it was refused.

`python tests/golden_files.py` writes the files of the others anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossings import DIALECTS, read_call

from edge_extproc.errors import BadRequest

GOLDEN = Path(__file__).resolve().parent / "golden"
# Models of which most can be asked without being the newest.
MODELS = {
    "openai_chat": "gpt-5-mini",
    "openai_responses": "gpt-5-mini",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini_generate": "gemini-2.5-flash",
}


def cases() -> list[tuple[str, str, str]]:
    """Source, case, target."""
    return [
        (source, path.stem, target)
        for source in DIALECTS
        for path in sorted((GOLDEN / source).glob("*.json"))
        if "." not in path.stem
        for target in DIALECTS
        if target != source
    ]


def crossed(source: str, case: str, target: str) -> dict[str, Any]:
    raw = (GOLDEN / source / f"{case}.json").read_bytes()
    chat = DIALECTS[source].read_chat(read_call(source, raw, MODELS[source], stream=False))
    try:
        written = DIALECTS[target].write_chat(chat, MODELS[target])
    except BadRequest as refusal:
        return {"refused": refusal.message}
    return {"dropped": list(written.dropped), "body": json.loads(written.body)}


def expected(source: str, case: str, target: str) -> Path:
    return GOLDEN / source / f"{case}.{target}.json"


def main() -> None:
    for each in cases():
        expected(*each).write_text(json.dumps(crossed(*each), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
