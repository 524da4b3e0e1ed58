"""A real Envoy that is told of changes by files: what it takes, what it refuses, and what it need not keep."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from config_kit import read
from ports import free_port
from providers import until
from running_envoy import ask_admin, envoy_binary

from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError
from edge_extproc.gateway.envoy_admin import EnvoyAdminClient
from edge_extproc.gateway.own_envoy import OwnEnvoy, longest_wait

pytestmark = pytest.mark.envoy

LISTEN = free_port()


@pytest.fixture
def directory() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="edge-"))
    yield found
    shutil.rmtree(found)


def config(directory: Path, port: int = 1, more: str = "", *, scheme: str = "http", tls: str = "{}") -> Config:
    return read(
        f"agent: {{workers: 1, sockets: '{directory}'}}\n"
        "providers: {p: {kind: openai, api_key: {env: KEY},"
        f" base_url: '{scheme}://127.0.0.1:{port}/v1', tls: {tls}}}}}\n"
        + (more if "listen:" in more else f"listen: {{port: {LISTEN}}}\n{more}")
    )


def broken(directory: Path, what: str) -> Config:
    """Of a provider that has moved."""
    bad = directory / "bad.pem"
    bad.write_text("this is not a certificate")
    if what == "clusters":
        return config(directory, 2, scheme="https", tls=f"{{ca: '{bad}'}}")
    return config(directory, 2, f"listen: {{port: {LISTEN}, tls: {{certificate: '{bad}', private_key: '{bad}'}}}}\n")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.glob("envoy-*.json")}


class Told(NamedTuple):
    """An Envoy, and what tells it."""

    own: OwnEnvoy
    socket: Path

    def clusters(self) -> list[str]:
        found = json.loads(ask_admin(self.socket, "/clusters?format=json"))["cluster_statuses"]
        return sorted(each["name"].partition("@")[0] for each in found)

    def attempts(self) -> str:
        """How often it was told what, and how much of it it took."""
        return ask_admin(self.socket, "/stats?filter=(cds|lds|rds).*(update_attempt|update_success)$")


@asynccontextmanager
async def told(
    directory: Path,
    first: Config | None = None,
    *,
    checks: bool = True,
    lasting: Callable[[Config], float] = longest_wait,
) -> AsyncIterator[Told]:
    """`checks`: whether a change is checked before it is told."""
    first = first or config(directory)
    socket = first.envoy_admin_socket()
    assert socket is not None
    binary, admin = envoy_binary(), EnvoyAdminClient(socket)
    own = OwnEnvoy(first, admin, binary if checks else "/bin/true", lasting)
    bootstrap = directory / "envoy.json"
    bootstrap.write_text(json.dumps(own.start()))
    command = (binary, "--config-path", str(bootstrap), "--log-level", "error", "--disable-hot-restart")
    process = await asyncio.create_subprocess_exec(*command, "--concurrency", "1")
    try:
        async with asyncio.timeout(30):
            while not await admin.ready():  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
        yield Told(own, socket)
    finally:
        await own.close()
        process.terminate()
        await process.wait()


async def test_what_leaves_stays_for_requests_under_way_and_then_goes(directory: Path) -> None:
    waits = iter([3600.0, 0.0, *[0.0] * 30])
    async with told(directory, lasting=lambda _: next(waits)) as envoy:
        await envoy.own.change(config(directory, 2))
        assert ["agent", "provider_p", "provider_p"] == envoy.clusters()
        await envoy.own.change(config(directory, 1))
        # The first is in force again, and the second has nobody to wait for.
        await until(lambda: envoy.clusters() == ["agent", "provider_p"])


async def test_a_stream_of_a_cluster_that_is_taken_away_ends_whole(directory: Path) -> None:
    go, gone = asyncio.Event(), asyncio.Event()

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await go.wait()
        writer.write(b" last")
        await reader.read()
        gone.set()
        writer.close()

    # A listener of the operator's, which names a cluster of ours.
    port = free_port()
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "provider_p"}}]}
    kind = "type.googleapis.com/envoy.extensions.filters."
    manager = {
        "@type": f"{kind}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "extra",
        "route_config": {"name": "extra", "virtual_hosts": [host]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}http.router.v3.Router"}}],
    }
    extra = {
        "name": "extra",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    raw = f"envoy: {{raw: {{static_resources: {{listeners: {json.dumps([extra])}}}}}}}\n"
    server = await asyncio.start_server(provider, "127.0.0.1", 0)
    first = config(directory, server.sockets[0].getsockname()[1], raw)
    async with server, told(directory, first, lasting=lambda _: 0.0) as envoy:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: me\r\n\r\n")
        assert (await reader.readuntil(b"first")).startswith(b"HTTP/1.1 200")
        await envoy.own.change(config(directory, 2, raw))
        await until(lambda: envoy.clusters() == ["agent", "provider_p"])
        go.set()

        assert b" last" == await reader.readexactly(5)
        # Its connection to the provider is for nobody any more.
        await asyncio.wait_for(gone.wait(), 10)
        writer.close()


async def test_many_changes_leave_nothing_behind(directory: Path) -> None:
    async with told(directory, checks=False, lasting=lambda _: 0.0) as envoy:
        files, threads = names(directory), threading.active_count()
        for port in range(2, 22):
            await envoy.own.change(config(directory, port, f"timeouts: {{first_byte: {port}s}}\n"))
        await until(lambda: envoy.clusters() == ["agent", "provider_p"])

        assert files == names(directory)
        # Those of asyncio.to_thread are for all.
        assert threading.active_count() - threads < 20
    assert [] == [name for name in names(directory) if name.startswith("envoy-") and name.endswith(".json")]


async def test_a_change_that_fails_its_check_reaches_no_file(directory: Path) -> None:
    async with told(directory) as envoy:
        before = envoy.attempts()
        with pytest.raises(ConfigError, match=r"Envoy refuses the rendered configuration: .*bad\.pem"):
            await envoy.own.change(broken(directory, "clusters"))

        assert before == envoy.attempts()


@pytest.mark.parametrize("what", ["clusters", "listeners"])
async def test_what_envoy_refuses_in_spite_of_the_check_is_taken_back(directory: Path, what: str) -> None:
    async with told(directory, checks=False) as envoy:
        with pytest.raises(ConfigError, match=f"Envoy rejects the new {what}"):
            await envoy.own.change(broken(directory, what))
        assert ["agent", "provider_p"] == envoy.clusters()

        await envoy.own.change(config(directory, 3))
        assert ["agent", "provider_p", "provider_p"] == envoy.clusters()


async def test_what_not_all_workers_could_take_is_undone(directory: Path) -> None:
    async with told(directory) as envoy:
        await envoy.own.change(config(directory, 2, "timeouts: {first_byte: 7s, client_idle: 7s}\n"))
        assert '"7s"' in ask_admin(envoy.socket, "/config_dump?resource=dynamic_route_configs")
        await envoy.own.undo()

        assert '"7s"' not in ask_admin(envoy.socket, "/config_dump")
        # Some workers may have had it for a moment.
        assert ["agent", "provider_p", "provider_p"] == envoy.clusters()


async def test_a_change_that_is_none_of_envoys_is_not_told(directory: Path) -> None:
    async with told(directory) as envoy:
        before = envoy.attempts()
        await envoy.own.change(config(directory, 1, "routing: {exploration: 7}\n"))

        assert before == envoy.attempts()


async def test_an_envoy_that_does_not_answer_is_told_nothing(directory: Path) -> None:
    own = OwnEnvoy(config(directory), EnvoyAdminClient(directory / "nobody.sock"), "/bin/true")
    own.start()
    before = contents(directory)
    with pytest.raises(ConfigError, match="does not answer"):
        await own.change(config(directory, 2))

    assert before == contents(directory)


def test_a_request_may_be_tried_as_long_as_the_configuration_lets_it(directory: Path) -> None:
    more = "retries: {attempts: 3, retry_after: 5s, back_off: {max: 2s}}\n"
    tries = 3 * (20 + 5)

    assert 60 + 30 + tries + 10 == longest_wait(config(directory, 1, more + "timeouts: {first_byte: 20s}\n"))
    assert 60 + 30 + 30 + 10 == longest_wait(config(directory, 1, more + "timeouts: {first_byte: 20s, request: 30s}\n"))
