"""Several agents as one service of real Envoys: `serve` on loopback addresses, which DNS names, and one Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import gateway as gateways
import httpx2 as httpx
from fault_player import ANTHROPIC, OPENAI
from gateway import RunningGateway, with_prices
from ports import free_port, free_ports
from running_envoy import ask_admin, envoy_binary
from two_levels import JSON, SSE_HEAD, Provider, Seen, answer, chunk

NAME = "agents.fleet.test"
WORKERS = 2
CALLERS = 6
"""Of a load."""
PATIENCE = 60.0
"""A busy machine is no failure: each wait ends with its condition."""

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


# --- DNS, as a headless Service of Kubernetes answers


class NameServer:
    """Answers each query for an A record with `addresses`, over UDP."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="name server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), peer)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        kind = struct.unpack("!H", query[end - 4 : end - 2])[0]
        found = list(self.addresses) if kind == 1 else []
        # An answer to a recursive query, with one question.
        head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0)
        records = b"".join(struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(each) for each in found)
        return head + query[12:end] + records


# --- the provider


class PacedProvider:
    """Chat completions and messages of one provider. A call whose text has `held` waits for `release`: a stream after
    its first token, another reply before its headers. `asked` counts the requests of each call."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.release = threading.Event()
        self.port = 0
        self._server = Provider(self._behave)

    async def _behave(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = json.loads(seen.body)
        call = re.search(r"call-[\w-]+", seen.body.decode())
        name = call.group() if call else "?"
        self.asked[name] += 1
        words = ANTHROPIC if "/messages" in seen.line else OPENAI
        is_held = "held" in name
        if not body.get("stream"):
            if is_held:
                await asyncio.to_thread(self.release.wait)
            await answer(200, words.reply, JSON)(seen, writer)
            return
        first = 1 + next(n for n, event in enumerate(words.events) if b'"Hi"' in event)
        writer.write(SSE_HEAD)
        for event in words.events[:first]:
            writer.write(chunk(event))
        await writer.drain()
        if is_held:
            await asyncio.to_thread(self.release.wait)
        for event in words.events[first:]:
            await asyncio.sleep(0.02)
            writer.write(chunk(event))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    @contextmanager
    def running(self) -> Iterator[PacedProvider]:
        with self._server.in_thread(self.release) as self.port:
            yield self


# --- Envoy, which can be restarted while it serves


class FleetEnvoy:
    """One Envoy. `restart` begins another process that takes over its listeners (hot restart)."""

    def __init__(self, bootstrap: dict[str, Any], base: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="envoy-"))
        self._bootstrap = bootstrap
        self._base = base
        self._epoch = -1
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def admin_socket(self) -> Path:
        return self._directory / f"admin-{self._epoch}.sock"

    def start(self) -> None:
        """Begins the next process, and returns when it listens."""
        self._epoch += 1
        path = self._directory / f"envoy-{self._epoch}.json"
        admin = {"address": {"pipe": {"path": str(self.admin_socket), "mode": 0o600}}}
        path.write_text(json.dumps({**self._bootstrap, "admin": admin}))
        argv = [
            envoy_binary(),
            *("--config-path", str(path)),
            *("--log-level", "warning"),
            *("--concurrency", "2"),
            *("--base-id", str(self._base)),
            *("--restart-epoch", str(self._epoch)),
            *("--drain-time-s", "1"),
            # Until then, what is open on the process before may go on.
            *("--parent-shutdown-time-s", str(int(PATIENCE))),
        ]
        with self.log.open("ab") as log:
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT))
        gateways.until(self._is_live, PATIENCE)

    def restart(self) -> None:
        """Another process takes over the listeners; the one before serves what is open on it."""
        self.start()

    @property
    def log(self) -> Path:
        return self._directory / "envoy.log"

    def _is_live(self) -> bool:
        code = self.processes[-1].poll()
        assert code is None, f"Envoy ended with {code}:\n{self.log.read_text()[-4000:]}"
        with contextlib.suppress(OSError, ValueError):
            return ask_admin(self.admin_socket, "/ready").strip() == "LIVE"
        return False

    def open_streams(self) -> Counter[str]:
        """By the address of the agent."""
        counted: Counter[str] = Counter()
        for host in self._hosts():
            active = [each for each in host["stats"] if each["name"] == "rq_active"]
            counted[host["address"]["socket_address"]["address"]] += sum(int(each.get("value", 0)) for each in active)
        return counted

    def workers(self) -> dict[str, bool]:
        """The address of each worker, and whether Envoy finds it healthy."""
        hosts = {}
        for host in self._hosts():
            at = host["address"]["socket_address"]
            failed = host["health_status"].get("failed_active_health_check", False)
            hosts[f"{at['address']}:{at['port_value']}"] = not failed
        return hosts

    def _hosts(self) -> list[dict[str, Any]]:
        code = self.processes[-1].poll()
        assert code is None, f"Envoy ended with {code}:\n{self.log.read_text()[-4000:]}"
        found = json.loads(ask_admin(self.admin_socket, "/clusters?format=json"))["cluster_statuses"]
        (agent,) = [each for each in found if each["name"] == "agent"]
        hosts: list[dict[str, Any]] = agent.get("host_statuses", [])
        return hosts

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


# --- agents


class Agent(RunningGateway):
    """`serve` on an address of its own."""

    def __init__(self, text: str, address: str) -> None:
        super().__init__(text, verb="serve")
        self.address = address

    def start(self) -> None:
        """Returns when it serves."""
        with_prices(self.directory / ".edge")
        self.launch()
        gateways.until(self.serves, PATIENCE)

    def serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.lines[-40:]
        with contextlib.suppress(OSError), urlopen(f"{self.admin}/readyz") as answer:
            return bool(answer.status == 200)
        return False

    def pids(self) -> list[int]:
        """The supervisor, and its workers as they are now."""
        assert self.process is not None
        return [self.process.pid, *(pid for n in range(WORKERS) if (pid := self.child("worker", "--index", str(n))))]

    def signal(self, number: int) -> None:
        """To all processes at once, as if the machine had stopped."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def shown(self) -> Any:
        with urlopen(f"{self.admin}/config") as answer:
            return json.load(answer)

    def reload(self, text: str) -> None:
        self.path.with_suffix(".fresh").write_text(text)
        self.path.with_suffix(".fresh").replace(self.path)
        before = self.shown()["last_reload"]
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        gateways.until(lambda: self.shown()["last_reload"] != before, PATIENCE)
        assert self.shown()["last_reload"]["outcome"] == "applied", self.shown()["last_reload"]

    def stop(self) -> int:
        """Also what is open on it ends first, which may take its grace."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2 * PATIENCE)
        return super().stop()

    def lose(self) -> None:
        """As at the loss of a machine: nothing is said, and nothing is cleaned up."""
        self.signal(signal.SIGKILL)
        self.stop()


@dataclass
class Outcome:
    """What a call came to: `why` is "whole", or what it was instead."""

    call: str
    path: str
    streamed: bool
    why: str
    status: int | None = None
    received: bytes = b""


@dataclass
class Load:
    """Callers that ask all the time, each when its last call has ended."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.why != "whole"]

    def reasons(self) -> Counter[str]:
        return Counter(each.why for each in self.failed)


class Fleet:
    """`agents` by address. `config` is a text for all, in which the address and the port of the admin interface are
    filled in for each."""

    def __init__(
        self, provider: PacedProvider, store_url: str, *, grace: str = "60s", callers: str = "", more: str = ""
    ) -> None:
        self.provider = provider
        self.names = NameServer()
        self.directory = Path(tempfile.mkdtemp(prefix="fleet-"))
        self.agents: dict[str, Agent] = {}
        self.envoys: list[FleetEnvoy] = []
        self._base = os.getpid() % 30_000 * 2
        self._next = 1
        self.seen_at: dict[str, str] = {}
        """By the address of an agent: where Envoy finds it, if that is another one."""
        self._calls = 0
        self.lost: set[str] = set()
        """Calls that were open on a process that was killed: of them, the ledger may know nothing."""
        self._port = free_ports(WORKERS)
        self.ports = tuple(self._port + n for n in range(WORKERS))
        self._listen = free_port()
        self.text = f"""
listen: {{port: {self._listen}}}
admin: {{port: ADMIN}}
agent:
  workers: {WORKERS}
  shutdown_grace: {grace}
  tcp: {{address: ADDRESS, port: {self._port}, hosts: [{NAME}], allow_plaintext: true}}
auth: {{pepper: "{gateways.PEPPER}"}}
envoy: {{concurrency: 2, access_log: "off"}}
store: {{database: "sqlite:///{self.directory}/ledger.db", every: 100ms}}
limiter: {{url: "{store_url}", replicas: auto}}
callers:
  - tenant: acme
    limits: {{requests_per_minute: 1000000, dollars_per_month: 1000, fail: local}}
    keys: [{{id: acme-1, key: {gateways.KEY}}}]
{callers}
providers:
  openai: {{kind: openai, base_url: "http://127.0.0.1:{provider.port}/v1", api_key: sk-o, api: chat}}
  anthropic: {{kind: anthropic, base_url: "http://127.0.0.1:{provider.port}/v1", api_key: sk-a}}
models:
  "claude*": [{{provider: anthropic}}]
  "*": [{{provider: openai, model: gpt-5-mini}}]
{more}
"""

    # --- agents

    def agent_text(self, address: str) -> str:
        return self.text.replace("ADMIN", str(free_port())).replace("ADDRESS", address)

    def start(self, count: int) -> list[Agent]:
        """New agents on new addresses, which are in DNS once they serve."""
        fresh = []
        for _ in range(count):
            address = f"127.0.1.{self._next}"
            self._next += 1
            fresh.append(Agent(self.agent_text(address), address))
        # At once, not one after the other: each start takes a second of a core.
        threads = [threading.Thread(target=agent.start) for agent in fresh]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for agent in fresh:
            assert agent.serves(), agent.lines[-20:]
            self.agents[agent.address] = agent
            self.names.addresses.append(agent.address)
        return fresh

    def remove(self, agent: Agent) -> None:
        """As Kubernetes does with a pod: out of DNS and SIGTERM at the same time."""
        self.names.addresses.remove(agent.address)
        del self.agents[agent.address]
        assert 0 == agent.stop()

    def until_known(self) -> None:
        """Until each Envoy has the workers of all agents, and finds them healthy."""
        wanted = {f"{self.seen_at.get(agent, agent)}:{port}": True for agent in self.agents for port in self.ports}
        for envoy in self.envoys:
            gateways.until(lambda envoy=envoy: wanted == envoy.workers(), PATIENCE)

    # --- Envoy

    def start_envoy(self) -> FleetEnvoy:
        from edge_extproc.config import load
        from edge_extproc.envoy_config import bootstrap

        # The n-th Envoy listens at the n-th address.
        text = self.agent_text("127.0.0.1").replace(
            f"listen: {{port: {self._listen}}}",
            f"listen: {{port: {self._listen}, address: 127.0.0.{1 + len(self.envoys)}}}",
        )
        rendered = bootstrap.render(load.parse(text, "fleet"))
        resolver = {"socket_address": {"address": "127.0.0.1", "port_value": self.names.port, "protocol": "UDP"}}
        kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
        rendered["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": kind,
                "resolvers": [resolver],
                "dns_resolver_options": {"use_tcp_for_dns_lookups": False, "no_default_search_domain": True},
            },
        }
        envoy = FleetEnvoy(rendered, self._base + len(self.envoys))
        self.envoys.append(envoy)
        envoy.start()
        return envoy

    def url(self, envoy: int = 0) -> str:
        return f"http://127.0.0.{1 + envoy}:{self._listen}"

    # --- calls

    def client(self, envoy: int = 0, *, key: str = gateways.KEY) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        # A connection for each call: one that is kept may be closed by Envoy in the moment of its use.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx.AsyncClient(base_url=self.url(envoy), headers=headers, timeout=PATIENCE, limits=limits)

    async def ask(
        self, http: httpx.AsyncClient, path: str, *, streamed: bool, held: bool = False, model: str = "gpt-5-mini"
    ) -> Outcome:
        self._calls += 1
        name = f"call-{'held-' if held else ''}{self._calls}-"
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"Hello {name}"}]}
        if path == MESSAGES:
            body["max_tokens"] = 20
        body["stream"] = streamed
        outcome = Outcome(name, path, streamed, "")
        try:
            async with http.stream("POST", path, json=body) as reply:
                outcome.status = reply.status_code
                async for part in reply.aiter_raw():
                    outcome.received += part
        except httpx.HTTPError as error:
            outcome.why = type(error).__name__
            return outcome
        end = (b"[DONE]" if path == CHAT else b"message_stop") if streamed else b"}"
        if reply.status_code == 200 and b"there" in outcome.received and end in outcome.received:
            outcome.why = "whole"
        else:
            code = re.search(rb'"code": ?"(\w+)"', outcome.received)
            outcome.why = f"{reply.status_code} {(code.group(1) if code else outcome.received[-200:]).decode()}"
        return outcome

    @asynccontextmanager
    async def load(self, callers: int = CALLERS) -> AsyncIterator[Load]:
        """Half of the calls are streams, and half of them are in the format of the other provider."""
        load = Load()
        stop = asyncio.Event()

        async def call_on(number: int) -> None:
            kinds = [(path, streamed) for path in (CHAT, MESSAGES) for streamed in (True, False)]
            async with self.client(number % len(self.envoys)) as http:
                n = number
                while not stop.is_set():
                    path, streamed = kinds[n % len(kinds)]
                    model = ("gpt-5-mini", "claude-sonnet-4-5")[n // len(kinds) % 2]
                    load.outcomes.append(await self.ask(http, path, streamed=streamed, model=model))
                    n += 1

        tasks = [asyncio.create_task(call_on(number)) for number in range(callers)]
        try:
            await until(lambda: len(load.outcomes) >= 2 * callers)
            yield load
            # What comes after the event is part of it.
            least = len(load.outcomes) + 2 * callers
            await until(lambda: len(load.outcomes) >= least)
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    # --- the ledger

    def paid(self) -> list[str]:
        """The exchange of each row that has cost something."""
        with contextlib.closing(sqlite3.connect(self.directory / "ledger.db")) as ledger:
            return [row[0] for row in ledger.execute("select exchange from usage where cost > 0")]

    def close(self) -> None:
        for envoy in self.envoys:
            envoy.close()
        threads = [threading.Thread(target=agent.stop) for agent in self.agents.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for agent in self.agents.values():
            shutil.rmtree(agent.directory, ignore_errors=True)
        self.names.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@asynccontextmanager
async def held_calls(fleet: Fleet, count: int = 16, *, envoy: int = 0) -> AsyncIterator[list[asyncio.Task[Outcome]]]:
    """Calls that a provider has begun to answer, and goes on with after `release`."""
    kinds = [(path, streamed) for path in (CHAT, MESSAGES) for streamed in (True, False)]
    before = fleet.provider.asked.total()
    async with fleet.client(envoy) as http:
        tasks = [
            asyncio.create_task(fleet.ask(http, path, streamed=streamed, held=True, model=model))
            for model in ("gpt-5-mini", "claude-sonnet-4-5")
            for path, streamed in kinds * (count // 8)
        ]
        try:
            await until(lambda: fleet.provider.asked.total() >= before + count)
            yield tasks
        finally:
            fleet.provider.release.set()
            await asyncio.gather(*tasks)


def was_open_on_a_lost_agent(outcome: Outcome) -> bool:
    """An error in the caller's format before the headers of a reply, a broken connection after them."""
    if outcome.status == 200:
        return outcome.why == "RemoteProtocolError"
    return outcome.why in {"503 worker_lost", "503 policy_unavailable"}


def left_out(fleet: Fleet, address: str, envoy: int) -> bool:
    """Whether an Envoy finds no worker at this address healthy."""
    workers = fleet.envoys[envoy].workers()
    return not any(is_healthy for at, is_healthy in workers.items() if at.startswith(f"{address}:"))


async def until(condition: Any) -> None:
    await asyncio.to_thread(gateways.until, condition, PATIENCE)
