"""Writes docs/clients.md, the table of clients, from the results of `make test-clients`. `make docs` runs it. A test
checks that the page is up to date."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from clients import results
from clients.ring import PROVIDERS
from clients.table import CLIENTS, SCENARIOS, Client, version

PAGE = Path(__file__).with_name("clients.md")
INTRODUCTION = """\
# Clients at each kind of provider

This page is generated from the results of `make test-clients` (`tests/clients`). Each client is the package of its
registry, unmodified. It gets the address of the gateway and a key, and asks for a model of its own vendor. The gateway
(`edge-extproc up`, with real Envoy) sends the call to a provider on the loopback, whose model follows a script. The
provider refuses what the real one is known to refuse: foreign signatures, ids and names that do not fit, calls without
results, missing reasoning. The compatible host has DeepSeek's rules. No real provider is called.

The signs of a cell are:

1. **plain**: a reply as a whole.
2. **stream**: a reply in pieces.
3. **tools**: four calls in three turns, two of them in parallel where the client has parallel calls, with reasoning. It
   streams where the client's loop can.
4. **structured**: a value for a JSON schema, in the client's own way.

✓: the client has seen what the model said, and the model what the tools said. ?: has not passed yet with the locked
version. –: the client does not have it, see below.

"""


def page() -> str:
    return INTRODUCTION + "\n".join([*_table(), "", *_not_run()]) + "\n"


def _table() -> Iterator[str]:
    yield f"| client | API | version | {' | '.join(PROVIDERS.values())} |"
    yield "| --- | --- | --- |" + " --- |" * len(PROVIDERS)
    passed = results.read()
    for client in CLIENTS:
        of_client = passed.get(client.name, {}).get("passed", {})
        cells = (
            " ".join(_sign(scenario, client.scenarios(name), of_client.get(name, ())) for scenario in SCENARIOS)
            for name in PROVIDERS
        )
        yield f"| {client.label} | {client.api_title} | {version(client)} | {' | '.join(cells)} |"


def _sign(scenario: str, planned: Collection[str], passed: Collection[str]) -> str:
    if scenario in passed:
        return "✓"
    return "?" if scenario in planned else "–"


def _not_run() -> Iterator[str]:
    yield "## What clients do not have"
    yield ""
    for label in dict.fromkeys(client.label for client in CLIENTS):
        for reason in dict.fromkeys(line for client in CLIENTS if client.label == label for line in _reasons(client)):
            yield f"- {label}, {reason}."


def _reasons(client: Client) -> Iterator[str]:
    for reason in dict.fromkeys(client.not_run.values()):
        scenarios = [scenario for scenario, its in client.not_run.items() if its == reason]
        yield f"{', '.join(scenarios)}: {reason}"
    for (provider, scenario), reason in client.not_at.items():
        yield f"{client.api_title} at {PROVIDERS[provider]}, {scenario}: {reason}"


if __name__ == "__main__":
    PAGE.write_text(page())
