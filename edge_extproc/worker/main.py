"""One worker process from start to stop: it serves ext_proc, ext_authz and introspection until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Mapping

import structlog

from .. import __version__
from ..config.schema import Config
from ..errors import EdgeError, PeerError, StartError
from ..exchange.attempt import AttemptExchange
from ..exchange.guard import GuardExchange
from ..exchange.handler import Handler
from ..exchange.open import OpenExchanges
from ..exchange.ports import Gateway
from ..exchange.router import RouterExchange
from ..model.envoy_names import ROLE
from ..model.managed import EMPTY
from ..model.settlement import Settlement
from ..server import serve as worker
from ..server.extproc import ExtProcService
from ..server.introspect import Introspection
from ..server.loop_lag import watch_loop
from ..server.transport import mutual_tls
from ..store import snapshot
from ..store.journal import Journal
from ..telemetry import logs
from ..telemetry.background import BACKGROUND, BackgroundMetrics
from ..telemetry.metrics import Metrics
from .state import WorkerState
from .wiring.authz import build_authz
from .wiring.gateway import metric_names
from .wiring.traces import unary_interceptors


def open_stream(current: Callable[[], Gateway], opened: Callable[[], None]) -> Callable[[Mapping[str, str]], Handler]:
    """Returns what makes the handler of a new ext_proc stream, with the gateway in force then. `opened` is called for
    each exchange that will be settled. An attempt finds its exchange whichever configuration that began with."""
    open_exchanges = OpenExchanges()

    def choose(metadata: Mapping[str, str]) -> Handler:
        match metadata.get(ROLE):
            case "router":
                opened()
                return RouterExchange(current(), open_exchanges, metadata.get("traceparent"))
            case "upstream":
                return AttemptExchange(current(), open_exchanges)
            case "guard":
                return GuardExchange(current(), open_exchanges)
            case role:
                raise PeerError(f"{ROLE}: {role!r}; expected router, upstream or guard")

    return choose


def open_journal(config: Config, index: int, failed: Callable[[], None]) -> Journal | None:
    """None where no ledger is kept. `failed` hears of each row that could not be written. Raises StartError."""

    def report(error: OSError) -> None:
        failed()
        logs.report(error)

    if config.store is None:
        return None
    directory = config.journal_dir()
    try:
        return Journal(directory, f"worker-{index}", on_error=report)
    except OSError as error:
        raise StartError(f"cannot write to {directory}: {error.strerror}; see agent.state_dir") from error


def _ease_the_interpreter() -> None:
    """For one busy loop beside threads that write logs. What was loaded so far stays: the collector need not look at
    it again each time. A thread that has the interpreter's lock gives it back after half a millisecond, not five."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0005)


async def run_worker(
    config: Config, index: int, newer: Callable[[], Config | None] = lambda: None, *, editions: bool = False
) -> None:
    """Serves on the socket of this index until SIGTERM or SIGINT. `newer` gives the config that came into force since
    it was asked last, if there is another; `editions`: how Envoy's clusters are named (proxy/cluster_names.py). Raises
    StartError or ConfigError."""
    logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=config.telemetry.log.format == "console")
    logs.catch_all()
    metrics = Metrics(metric_names(config), version=__version__, started_at=time.time())
    access = logs.AccessLog(
        sys.stdout.buffer,
        on_drop=metrics.lines_dropped,
        refused_per_second=config.telemetry.log.refused_per_second,
        on_spare=metrics.line_spared,
    )
    metrics.queues.watch("access_lines", lambda: access.waiting)
    journal = open_journal(config, index, metrics.journal_failed)

    def closed(settlement: Settlement) -> None:
        del settlement
        metrics.closed()

    of_journal = (journal.write,) if journal is not None else ()
    sinks = (*of_journal, closed, metrics.settle, access.write)
    managed = snapshot.read(config.managed_file) if config.has_admin_api else EMPTY
    force = WorkerState(config, index, metrics, sinks, managed, editions=editions)

    async def reload() -> None:
        try:
            await force.reload(newer)
        except EdgeError as error:
            structlog.get_logger().warning("config_not_taken", error=error.message)
            raise
        access.refused_per_second = force.config.telemetry.log.refused_per_second

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [BACKGROUND.start("loop_lag", lambda: watch_loop(metrics.loop_lagged))]
    metrics.registry.register(BackgroundMetrics(BACKGROUND))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = ExtProcService(open_stream(lambda: force.gateway, metrics.opened), logs.report)
    authz = build_authz(config, lambda: force.gateway, metrics.registry, access.write)
    address = config.agent.worker_addresses()[index]
    _ease_the_interpreter()
    await force.start()
    try:
        await worker.serve(
            address,
            (
                service,
                authz,
                Introspection(
                    metrics.snapshot,
                    force.cache.purge_json if force.cache is not None else None,
                    reload,
                    force.stores,
                ),
            ),
            stop,
            config.agent.shutdown_grace.total_seconds(),
            tls=mutual_tls(config.agent),
            group=config.agent.socket_access == "group",
            # What changed between our first look and now was told to nobody here.
            on_ready=lambda: tasks.append(asyncio.create_task(reload())),
            on_stopping=service.stop,
            interceptors=unary_interceptors(force.traces) if force.traces is not None else (),
            transport=config.agent.transport,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await force.close()
        access.close()
        if journal is not None:
            journal.close()
        if force.traces is not None:
            await asyncio.to_thread(force.traces.close)
