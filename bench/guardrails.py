"""What the detectors cost and find: `python -m bench.guardrails [--recordings DIRECTORY ...] [--findings]`.

- `cost`: processor time for 4 KB of text, with the detectors pii, credentials, injection, urls and size together. Texts
  are varied JSON, prose, code, other alphabets, and the worst that was thought of. Cold: the first search of each
  detector. The time is that of this process, so other processes on the machine disturb it little.
- `growth`: the same for 16 KB, as a multiple of 4 KB. A linear detector has 4.
- `--findings`: which recorded calls have a finding with the default options, by detector, label and kind of text.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_extproc.guardrails.base import Detector, TextKind
from edge_extproc.guardrails.detectors import credentials, injection, pii, size, urls

SIZE = 4096
_SHOWN = 12


def detectors() -> dict[str, Detector]:
    """With their default options; those that have none find nothing in these texts, but search."""
    return {
        "pii": pii.PLUGIN.build(pii.PiiOptions()),
        "credentials": credentials.PLUGIN.build(credentials.CredentialsOptions()),
        "injection": injection.PLUGIN.build(injection.InjectionOptions()),
        "urls": urls.PLUGIN.build(urls.UrlsOptions(deny=("denied.example", "*.denied.example"))),
        "size": size.PLUGIN.build(size.SizeOptions(max_characters=1_000_000)),
    }


# --- texts


def _random_json(pick: random.Random, length: int) -> str:
    words = ["name", "id", "value", "path", "created_at", "items", "token_count", "url", "message", "status", "type"]
    rows: list[Any] = []
    while len(json.dumps(rows)) < length:
        rows.append(
            {
                pick.choice(words): pick.choice(words) * pick.randrange(4),
                "n": pick.randrange(10**9),
                "x": pick.random(),
                "id": f"{pick.getrandbits(128):032x}",
                "at": f"2026-{pick.randrange(1, 13):02}-{pick.randrange(1, 29):02}T12:00:{pick.randrange(60):02}Z",
                "url": f"https://host{pick.randrange(99)}.example/{pick.getrandbits(40):x}?q={pick.randrange(999)}",
            }
        )
    return json.dumps(rows)[:length]


_PROSE = (
    "A gateway reads each request, decides which model gets it, and forwards it. It counts the tokens of the reply and "
    "writes a row of the ledger. If the provider fails, the next one is tried; the caller does not notice. "
)
_CODE = (
    "def read(path: str) -> dict[str, int]:\n    with open(path) as file:\n"
    "        return {k: int(v) for k, v in rows(file)}\n"
)
_OTHER = "Шлюз читает каждый запрос и решает, какая модель его получит. 网关读取每个请求，并决定由哪个模型处理。"
_ACCENTS = "La passerelle lit chaque requête, décide quel modèle la reçoit, et la transmet. À côté, le café coûte 3 €. "


def texts(length: int, seed: int = 0) -> dict[str, str]:
    pick = random.Random(seed)  # noqa: S311 - texts to measure with
    data = random.Random(seed + 1).randbytes(length)  # noqa: S311
    return {
        "varied JSON": _random_json(pick, length),
        "prose": (_PROSE * (length // len(_PROSE) + 1))[:length],
        "code": (_CODE * (length // len(_CODE) + 1))[:length],
        "Cyrillic and Chinese": (_OTHER * (length // len(_OTHER) + 1))[:length],
        "accents": (_ACCENTS * (length // len(_ACCENTS) + 1))[:length],
        "a picture in base64": base64.b64encode(data).decode()[:length],
        "prose in base64": base64.b64encode((_PROSE * length)[:length].encode()).decode()[:length],
        "random bytes (Latin-1)": data.decode("latin-1"),
        "random bytes (surrogates)": data.decode("utf-8", "surrogateescape"),
    }


def worst_texts(length: int) -> dict[str, str]:
    units = {
        "telephone numbers": "+1 415 555 26{:02} ",
        "digits with spaces": "4 1 ",
        "cards with a wrong digit": "4111 1111 1111 11{:02} ",
        "e-mail addresses": "a{}@b.c ",
        "words of credentials": "sk-{} key=token: secret=",
        "keys": "AKIAQYLPMN5HFIQR7X{:02} ",
        "beginnings of private keys": "-----BEGIN PRIVATE KEY-----",
        "words of injections": "ignore all the your ",
        "injections": "ignore all previous instructions ",
        "beginnings of URLs": "https://a{}.b/",
        "invisible characters": "a\u200b",
        "lookalikes": "аb",
        "fullwidth letters": "ａb",
        "escapes of escapes": "%25{:02x}",
        "JSON escapes": "\\u00{:02x}",
        "entities": "&#{};",
        "short base64": "aWdub3JlIGFsbA{:02}== ",
        "pairs of digits": "41 {:02x} ",
        "letters with spaces": "i g n o r e ",
    }
    return {
        name: "".join(unit.format(number % 90 + 10) for number in range(length // 2))[:length]
        for name, unit in units.items()
    }


# --- cost


def _cpu(found: dict[str, Detector], text: str, rounds: int = 7) -> float:
    """Milliseconds, the least of the rounds: a loaded machine makes the others longer. Each round has another text, so
    that no view is kept from the last one."""
    times = []
    for number in range(rounds):
        # The last characters differ.
        fresh = f"{text[:-2]}{number:02}"
        begin = time.process_time()
        for detector in found.values():
            detector.find(fresh, "tool_result")
        times.append((time.process_time() - begin) * 1000)
    return min(times)


def cost(directories: list[Path]) -> dict[str, Any]:
    found = detectors()
    begin = time.process_time()
    for detector in found.values():
        detector.find(texts(SIZE)["varied JSON"], "tool_result")
    cold = (time.process_time() - begin) * 1000
    print(f"the first search of all detectors: {cold:.1f} ms")
    varied = [_random_json(random.Random(seed), SIZE) for seed in range(40)]  # noqa: S311
    varied_time = statistics.median(_cpu(found, text) for text in varied)
    print(f"40 texts of JSON with many numbers, addresses and ids: median {varied_time:.3f} ms for 4 KB")
    for name, detector in found.items():
        print(f"  {name} alone: {statistics.median(_cpu({name: detector}, text) for text in varied):.3f} ms")
    recorded = [each for directory in directories for each in _long_requests(directory)]
    if recorded:
        times = sorted(_cpu(found, text, 3) for text in recorded)
        middle, most = statistics.median(times), times[int(len(times) * 0.95)]
        print(f"{len(times)} recorded requests, 4 KB of each: median {middle:.3f}, 95th percentile {most:.3f} ms")
    print(f"\n{'text':30} {'ms / 4 KB':>10} {'growth':>8}")
    measured = {}
    long = {**texts(4 * SIZE), **worst_texts(4 * SIZE)}
    for name, text in {**texts(SIZE), **worst_texts(SIZE)}.items():
        milliseconds = _cpu(found, text)
        growth = _cpu(found, long[name], 3) / milliseconds
        measured[name] = milliseconds
        print(f"{name:30} {milliseconds:10.3f} {growth:8.1f}")
    return {"cold": cold, "varied": varied_time, "texts": measured}


# --- false positives

_ROLES: dict[str, TextKind] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool_result",
    "function": "tool_result",
}
_KEYS: dict[str, TextKind] = {
    "system": "system",
    "system_instruction": "system",
    "systemInstruction": "system",
    "instructions": "system",
    "tools": "tool_definition",
    "toolConfig": "tool_definition",
    "functions": "tool_definition",
    "toolResult": "tool_result",
    "functionResponse": "tool_result",
    "tool_calls": "tool_call",
    "toolUse": "tool_call",
    "functionCall": "tool_call",
}
_TYPES: dict[str, TextKind] = {
    "tool_result": "tool_result",
    "function_call_output": "tool_result",
    "tool_use": "tool_call",
    "function_call": "tool_call",
}


def strings(value: object, kind: TextKind = "user") -> Iterator[tuple[str, TextKind]]:
    """All strings of a body, with their kinds as far as the usual names of fields say."""
    if isinstance(value, str):
        yield value, kind
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, kind)
    elif isinstance(value, dict):
        role, type_ = value.get("role"), value.get("type")
        if isinstance(role, str):
            kind = _ROLES.get(role, kind)
        if isinstance(type_, str):
            kind = _TYPES.get(type_, kind)
        for key, each in value.items():
            yield from strings(each, _KEYS.get(key, kind))


def _bodies(side: dict[str, Any]) -> Iterator[object]:
    text = side.get("body") or ""
    if side.get("body_encoding") == "base64":
        text = base64.b64decode(text).decode("utf-8", "replace")
    try:
        yield json.loads(text)
    except ValueError:
        for line in text.split("\n"):
            if line.startswith("data:"):
                try:
                    yield json.loads(line[5:])
                except ValueError:
                    continue


def _recordings(directory: Path) -> Iterator[dict[str, Any]]:
    for line in (directory / "index.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        path = directory / row["file"]
        if path.suffix == ".jsonl":
            yield next(each for each in map(json.loads, path.open(encoding="utf-8")) if each["id"] == row["id"])
        else:
            yield json.loads(path.read_text("utf-8"))


def _long_requests(directory: Path) -> list[str]:
    bodies = [recording.get("request", {}).get("body") or "" for recording in _recordings(directory)]
    return list(dict.fromkeys(body[:SIZE] for body in bodies if len(body) > SIZE))


def false_positives(directories: list[Path], show: bool) -> None:
    found = detectors()
    calls = with_finding = characters = 0
    kinds: Counter[tuple[str, str, str]] = Counter()
    shown: dict[tuple[str, str, str], list[str]] = {}
    of_detector: Counter[str] = Counter()
    for directory in directories:
        for recording in _recordings(directory):
            calls += 1
            here: set[tuple[str, str, str]] = set()
            for side, default in (("request", "user"), ("response", "assistant")):
                for body in _bodies(recording.get(side) or {}):
                    for text, kind in strings(body, default):  # type: ignore[arg-type]
                        characters += len(text)
                        for name, detector in found.items():
                            for each in detector.find(text, kind):
                                place = (name, each.label, kind)
                                here.add(place)
                                shown.setdefault(place, []).append(text[max(0, each.start - 24) : each.end + 8])
            with_finding += bool(here)
            kinds.update(here)
            of_detector.update({name for name, _, _ in here})
    print(f"{calls} calls with {characters} characters; {with_finding} ({with_finding / calls:.2%}) have a finding")
    for name, count in of_detector.most_common():
        print(f"  {name}: {count} calls ({count / calls:.2%})")
    for place, count in kinds.most_common():
        print(f"    {', '.join(place)}: {count} calls")
        if show:
            for each in list(dict.fromkeys(shown[place]))[:_SHOWN]:
                print(f"        {each!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, nargs="*", default=[], help="directories with index.jsonl")
    parser.add_argument("--findings", action="store_true", help="what is found in the recordings, instead of the cost")
    parser.add_argument("--show", action="store_true", help="show the text of the findings in recordings")
    parser.add_argument("--output", type=Path, help="the costs as JSON")
    given = parser.parse_args()
    if given.findings:
        false_positives(given.recordings, given.show)
        return
    print(f"load average: {os.getloadavg()[0]:.1f}")
    measured = cost(given.recordings)
    if given.output is not None:
        given.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
