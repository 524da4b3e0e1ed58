"""Random exceptions in every supervised task of a running gateway: each task is restarted, told, and works again.

The exceptions are put into the futures that the tasks wait for, by a thread of the process that Python starts with
`sitecustomize`. The gateway's own code is unchanged.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from urllib.request import urlopen

import gateway as gateways
import httpx2 as httpx
import pytest
import thoroughness
from gateway import KEY, RunningGateway, until
from valkeys import Valkey

import edge_extproc

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.xdist_group("limits"),
    pytest.mark.skipif(not thoroughness.is_long(), reason="it takes most of a minute: make test-long runs it"),
]

# Tasks that run only in a state of another part. Their own tests put faults into them.
CONDITIONAL = {
    "cache_recovery": "while the cache's store is down",
    "clear_clusters": "after a provider was removed from the configuration",
    "credentials": "with a provider whose credential is fetched",
}

INJECTOR = """
import asyncio, asyncio.tasks, json, os, random, threading, time

LEFT = dict.fromkeys(json.loads(os.environ.get("FAULTY_TASKS", "[]")), 2)
KINDS = (RuntimeError, ValueError, KeyError, OSError, ZeroDivisionError, TypeError, OverflowError, MemoryError)
CHANCE = random.Random()


def innermost(task):
    waiter = task._fut_waiter
    while isinstance(waiter, asyncio.Task):
        waiter = waiter._fut_waiter
    return waiter


def fault(task):
    waiter = innermost(task)
    if LEFT[task.get_name()] > 0 and waiter is not None and not waiter.done():
        LEFT[task.get_name()] -= 1
        waiter.set_exception(CHANCE.choice(KINDS)("on purpose"))


def run():
    tasks = getattr(asyncio.tasks, "_all_tasks" if hasattr(asyncio.tasks, "_all_tasks") else "_scheduled_tasks")
    while not os.path.exists(os.environ["FAULTS_BEGIN"]):
        time.sleep(0.05)
    while any(LEFT.values()):
        try:
            known = list(tasks)
        except RuntimeError:  # it has changed meanwhile
            continue
        for task in known:
            if LEFT.get(task.get_name()) and not task.done():
                try:
                    task.get_loop().call_soon_threadsafe(fault, task)
                except RuntimeError:  # the loop has ended
                    return
        time.sleep(0.3)  # a task may wait for something else by then


if LEFT:
    threading.Thread(target=run, daemon=True).start()
"""


def task_names() -> set[str]:
    """The names of all calls of `BACKGROUND.start`, each of which must be a literal."""
    found: set[str] = set()
    for path in Path(edge_extproc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("BACKGROUND"), attr="start"), args=[name, *_]):
                    assert isinstance(name, ast.Constant), f"{path}: a task without a literal name"
                    found.add(str(name.value))
    return found


def samples(running: RunningGateway, name: str) -> dict[str, float]:
    found = re.findall(rf'^{name}{{task="(\w+)"}} (\S+)$', running.metrics(), re.MULTILINE)
    return {task: float(value) for task, value in found}


def faulted(text: str, directory: Path) -> set[str]:
    """The tasks of this gateway, after each has failed and runs again."""
    (directory / "sitecustomize.py").write_text(INJECTOR)
    begin = directory / "begin"
    environment = {
        "PYTHONPATH": str(directory),
        "FAULTY_TASKS": json.dumps(sorted(task_names())),
        "FAULTS_BEGIN": str(begin),
    }
    with RunningGateway(text, environment=environment) as running:
        begin.touch()

        def each_has_failed() -> bool:
            return min(samples(running, "edge_task_failures_total").values()) >= 1

        try:
            until(each_has_failed, 60.0)
        except AssertionError:
            pytest.fail(f"no failure is told: {samples(running, 'edge_task_failures_total')}")
        until(lambda: not any(samples(running, "edge_tasks_failed").values()), 60.0)
        with urlopen(f"{running.admin}/readyz") as answer:
            told = json.load(answer)["tasks"]
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
        reply = httpx.post(
            f"{running.url}/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}"}, timeout=30
        )
        found = set(samples(running, "edge_task_failures_total"))
        assert 200 == reply.status_code, reply.text
        # The supervisor's own tasks.
        assert {"watch_processes", "configuration_file", "keep_counts", "ledger"} <= told.keys()
        assert 0 == running.stop()
        return found


def config(rehearsal_url: str, more: str, workers: int) -> str:
    text = gateways.config(rehearsal_url, models="gpt-4o-mini: [{provider: openai}]", workers=workers, more=more)
    text = text.replace(f"key: {KEY}}}", f"key: {KEY}, limits: {{dollars_per_day: 100, requests_per_minute: 1000}}}}")
    line = next(each for each in text.splitlines() if each.startswith("admin:"))
    tokens = line.replace("}", ", tokens: [{id: a, role: admin, token: an-admin-token-of-32-characters-00}]}")
    issuer = "{issuer: 'https://issuer.example', jwks_url: 'http://127.0.0.1:1/keys', audiences: [edge]}"
    text = text.replace(f'pepper: "{gateways.PEPPER}"', f'pepper: "{gateways.PEPPER}", jwt: [{issuer}]')
    return text.replace(line, tokens)


def test_every_task_of_workers_and_supervisor_goes_on_after_any_exception(rehearsal_url: str, tmp_path: Path) -> None:
    with Valkey() as valkey:
        shared = f"""
        store: {{every: 100ms}}
        limiter: {{webhook: {{url: "http://127.0.0.1:1/hook"}}}}
        cache: {{redis: {{url: "{valkey.url}"}}}}
        """
        alone = "store: {every: 100ms}\n"
        found = set[str]()
        for name, more, workers in (("shared", shared, 2), ("alone", alone, 1)):
            (tmp_path / name).mkdir()
            found |= faulted(config(rehearsal_url, more, workers), tmp_path / name)

    assert task_names() - CONDITIONAL.keys() == found - CONDITIONAL.keys()
