"""A batch of the ring: cells that are run together. A library runs all of its cells in one process, because its start
takes longer than they do. An agent is a process for each cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway import RunningGateway

from clients import install
from clients.agents import Agent
from clients.formats import Json
from clients.scripted import Cell, Provider
from clients.table import CLIENTS, MODELS, Client, run_library

PROVIDERS = {"claude": "Claude", "gpt": "GPT", "gemini": "Gemini", "host": "a compatible host"}
TEXT = "Héllo, this is the model: “done” ✓ 😀."
VALUE: Json = {"city": "Zürich", "degrees": 21, "tags": ["dry", "“warm”"]}
THINKING = "The user wants me to work: I do it step by step."


@dataclass(frozen=True)
class Place:
    """One cell of the table."""

    client: Client
    provider: str
    scenario: str

    def __str__(self) -> str:
        return f"{self.client.name} at {self.provider}, {self.scenario}"


def key(provider: str) -> str:
    return f"edge-key-of-the-caller-at-{provider}"


def places(clients: Iterable[Client], providers: Iterable[str] = PROVIDERS) -> list[Place]:
    return [
        Place(client, provider, scenario)
        for client in clients
        for provider in providers
        for scenario in client.scenarios(provider)
    ]


def batches() -> Mapping[str, list[Place]]:
    """The cells by the name of their batch."""
    found: dict[str, list[Place]] = {}
    for client in CLIENTS:
        for provider in PROVIDERS:
            name = f"{client.name} at {provider}" if isinstance(client.program, Agent) else client.label
            found.setdefault(name, []).extend(places([client], [provider]))
    return found


def run(batch: list[Place], provider: Provider, gateway: RunningGateway, work: Path) -> dict[Place, list[str]]:
    """What was wrong in each cell; an empty list is a pass. Raises install.NotInstalled."""
    cells, jobs = {}, {}
    for place in batch:
        cells[place] = Cell(
            turns=place.client.turns if place.scenario == "tools" else (),
            text=TEXT,
            value=VALUE if place.scenario == "structured" else None,
            thinking=THINKING if place.scenario == "tools" else "",
        )
        name = provider.add(cells[place])
        jobs[place] = {
            "id": name,
            "api": place.client.api,
            "url": gateway.url,
            "key": key(place.provider),
            "model": MODELS[place.client.api],
            "scenario": place.scenario,
            "prompt": f"Do the work of {name}.",
        }
    first = batch[0].client
    directory = install.install(first.installation)
    if isinstance(first.program, Agent):
        seen = {job["id"]: first.program.run(directory, job, work / job["id"]) for job in jobs.values()}
    else:
        seen = run_library(first.installation, directory, first.program, list(jobs.values()))
    return {place: problems(place.scenario, cells[place], seen[jobs[place]["id"]]) for place in batch}


def problems(scenario: str, cell: Cell, seen: Json) -> list[str]:
    wrong = list(cell.problems)
    if "error" in seen:
        return [*wrong, str(seen["error"])]
    if scenario == "structured":
        if seen.get("value") != VALUE:
            wrong.append(f"the client has the value {seen.get('value')!r}")
    elif TEXT not in seen["text"]:
        wrong.append(f"the client has the text {seen['text'][-2000:]!r}")
    if not cell.requests:
        return [*wrong, "the provider was not asked"]
    if scenario in ("plain", "stream") and (scenario == "stream") not in {each.stream for each in cell.requests}:
        wrong.append(f"the provider was asked for {'whole replies' if scenario == 'stream' else 'streams'} only")
    if scenario == "stream" and seen.get("pieces", 2) < 2:
        wrong.append("the client saw the text in one piece")
    calls = sum(len(turn) for turn in cell.turns)
    if max(each.results for each in cell.requests) < calls:
        wrong.append(f"no request had the results of all {calls} calls")
    return wrong
