"""One worker process from start to stop: it serves ext_proc, ext_authz and introspection until it is stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import structlog

from .. import __version__
from ..config.schema import Config
from ..errors import EdgeError, PeerError, StartError
from ..exchange.attempt import AttemptExchange
from ..exchange.capture import CapturedHandler, Captures
from ..exchange.consumer import ConsumerExchange
from ..exchange.consumer_routes import ConsumerRoute
from ..exchange.first_token import GuardExchange
from ..exchange.handler import Handler
from ..exchange.open import OpenExchanges
from ..exchange.ports import Gateway, LedgerSink
from ..exchange.router import RouterExchange
from ..exchange.socket_settings import UNWATCHED, OpenSockets, SocketWatch
from ..exchange.sockets.exchange import SocketExchange
from ..model.checked import AuthzDecision
from ..model.envoy_names import ROLE
from ..model.managed import EMPTY
from ..model.settlement import Settlement
from ..server import garbage
from ..server.extproc import ExtProcService, OpenStream
from ..server.introspect import Introspection
from ..server.loop_lag import watch_loop
from ..server.rpc import CallRefused, Status
from ..server.serve import serve
from ..server.stream_ends import StreamEnds
from ..server.transport import mutual_tls
from ..store import snapshot
from ..store.journal import Journal
from ..telemetry import console, logs
from ..telemetry.background import BACKGROUND, BackgroundMetrics
from ..telemetry.metrics import Metrics
from .state import WorkerState
from .wiring.authz import build_authz
from .wiring.gateway import metric_names
from .wiring.traces import unary_interceptors

if TYPE_CHECKING:
    from .bridge import Bridge


def open_stream(
    current: Callable[[], Gateway],
    opened: Callable[[], None],
    stopping: Callable[[], bool] = lambda: False,
    captures: Captures | None = None,
    sockets: SocketWatch = UNWATCHED,
) -> OpenStream:
    """Returns the factory of handlers for new ext_proc streams. A handler gets the gateway that is current when its
    stream opens. `opened` is called for each exchange that will be settled. An attempt finds its exchange also if that
    began with an earlier configuration. While the worker is `stopping`, attempts are served but no exchange begins:
    Envoy sends it to another worker. `captures`: the debug captures of this worker. `sockets` counts WebSockets."""
    open_exchanges, open_sockets = OpenExchanges(), OpenSockets()

    def consumer(local: str | None, traceparent: str | None, gateway: Gateway, route: ConsumerRoute) -> RouterExchange:
        opened()
        return RouterExchange(gateway, open_exchanges, traceparent, local, route)

    def choose(metadata: Mapping[str, str], local: str | None) -> Handler:
        match metadata.get(ROLE):
            case None | "router" | "socket" | "mcp" if stopping():
                raise CallRefused(Status.UNAVAILABLE, "the worker stops")
            case "router":
                opened()
                return RouterExchange(current(), open_exchanges, metadata.get("traceparent"), local)
            case "socket":
                opened()
                return SocketExchange(current, opened, sockets, open_sockets, local)
            case "mcp":
                from ..exchange.mcp.exchange import McpExchange  # not loaded without servers

                opened()
                return McpExchange(current(), metadata.get("traceparent"), local)
            case None:
                return ConsumerExchange(current(), partial(consumer, local, metadata.get("traceparent")))
            case "upstream":
                return AttemptExchange(current(), open_exchanges)
            case "guard":
                return GuardExchange(current(), open_exchanges)
            case role:
                raise PeerError(f"{ROLE}: {role!r}; expected router, upstream, guard, socket or mcp")

    def choose_captured(metadata: Mapping[str, str], local: str | None) -> Handler:
        handler = choose(metadata, local)
        if captures is not None and captures.is_expecting and metadata.get(ROLE) in ("router", "upstream"):
            return CapturedHandler(handler, captures)
        return handler

    return choose_captured


def open_journal(config: Config, index: int, failed: Callable[[], None]) -> Journal | None:
    """None without a ledger. `failed` is called for each failure of the journal. Raises StartError."""
    directory = config.journal_dir()

    def report(error: OSError) -> None:
        failed()
        structlog.get_logger().error("journal_error", reason=error.strerror, directory=str(directory))

    if config.store is None:
        return None
    try:
        return Journal(directory, f"worker-{index}", on_error=report)
    except OSError as error:
        raise StartError(f"cannot write to {directory}: {error.strerror}; see agent.state_dir") from error


def _access_line(config: Config) -> Callable[[Settlement | AuthzDecision], bytes]:
    return console.line if logs.is_console(config.telemetry.log.format) else logs.json_line


def _tune_interpreter() -> None:
    """For one busy event loop beside threads that write logs. A thread releases the interpreter's lock after half a
    millisecond instead of five."""
    garbage.collect_from_now()
    sys.setswitchinterval(0.0005)


def _bridge(current: Callable[[], Config]) -> Bridge | None:
    """None: no session becomes requests."""
    if not current().bridges_responses:
        return None
    from .bridge import Bridge  # not loaded without it

    return Bridge(current)


def _stop(service: ExtProcService, bridge: Bridge | None) -> None:
    service.stop()
    if bridge is not None:
        bridge.stop()


async def _drained(service: ExtProcService, bridge: Bridge | None, ends: StreamEnds) -> None:
    try:
        await service.drained()
        if bridge is not None:
            await bridge.drained()
    finally:
        ends.stop()


async def run_worker(
    config: Config, index: int, newer: Callable[[], Config | None] = lambda: None, *, versioned_clusters: bool = False
) -> None:
    """Serves on the socket of this index until SIGTERM or SIGINT. `newer` returns the configuration that was published
    since its last call, or None. `versioned_clusters`: clusters are named with a digest (proxy/cluster_names.py).
    Raises StartError or ConfigError."""
    logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=logs.is_console(config.telemetry.log.format))
    logs.catch_all()
    metrics = Metrics(metric_names(config), version=__version__, started_at=time.time())
    access = logs.AccessLog(
        sys.stdout.buffer,
        on_drop=metrics.lines_dropped,
        refused_per_second=config.telemetry.log.refused_per_second,
        on_spare=metrics.line_spared,
        line=_access_line(config),
    )
    metrics.queues.watch("access_lines", lambda: access.waiting)
    journal = open_journal(config, index, metrics.journal_failed)

    def count_closed(settlement: Settlement) -> None:
        if settlement.booking is None:
            metrics.closed()

    sinks = (count_closed, metrics.settle, access.write)
    ledger: LedgerSink | None = journal.write if journal is not None else None
    managed = snapshot.read(config.managed_file) if config.has_admin_api else EMPTY
    worker = WorkerState(config, index, metrics, sinks, managed, ledger, versioned_clusters=versioned_clusters)

    async def reload() -> None:
        try:
            await worker.reload(newer)
        except EdgeError as error:
            structlog.get_logger().warning("config_not_applied", error=error.message)
            raise
        access.refused_per_second = worker.config.telemetry.log.refused_per_second
        access.line = _access_line(worker.config)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [BACKGROUND.start("loop_lag", lambda: watch_loop(metrics.loop_lagged))]
    metrics.registry.register(BackgroundMetrics(BACKGROUND))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    captures = Captures(time.monotonic)
    ends = StreamEnds() if config.reports_ends else StreamEnds(patience=0)
    service = ExtProcService(
        open_stream(lambda: worker.gateway, metrics.opened, stop.is_set, captures, metrics.sockets),
        logs.report,
        ends.is_broken,
    )
    authz = build_authz(config, lambda: worker.gateway, metrics.registry, access.write)
    bridge = _bridge(lambda: worker.config)
    address = config.agent.worker_addresses()[index]
    _tune_interpreter()
    await worker.start()
    try:
        if bridge is not None:
            await bridge.start(index)
        await serve(
            address,
            (
                service,
                ends,
                authz,
                Introspection(
                    metrics.snapshot,
                    worker.cache.purge_json if worker.cache is not None else None,
                    reload,
                    worker.stores,
                    worker.limit_uses,
                    worker.probe,
                    worker.provider_prices,
                    captures,
                ),
            ),
            stop,
            config.agent.shutdown_grace.total_seconds(),
            tls=mutual_tls(config.agent),
            group=config.agent.socket_access == "group",
            # A change since the configuration was read: no reload was sent to this worker for it.
            on_ready=lambda: tasks.append(asyncio.create_task(reload())),
            on_stopping=partial(_stop, service, bridge),
            drained=partial(_drained, service, bridge, ends),
            interceptors=unary_interceptors(worker.traces) if worker.traces is not None else (),
            transport=config.agent.transport,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if bridge is not None:
            await bridge.close()
        await worker.close()
        access.close()
        if journal is not None:
            journal.close()
        if worker.traces is not None:
            await asyncio.to_thread(worker.traces.close)
