"""Starts and stops the processes of the gateway: `up` with Envoy, `serve` the agent alone.

It makes the process specs for the supervisor, waits until all processes serve, serves the admin port, and stops
everything in order. It knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ..accounting import prices
from ..config.extras import require_extras
from ..config.schema import Config
from ..errors import StartError
from ..model.limit_use import LimitKey, LimitUse, joined
from ..proxy.cluster_names import can_change
from ..server import garbage
from ..server.transport import mutual_tls
from ..telemetry import console, envoy_log, logs, snapshot
from ..telemetry.background import BACKGROUND, BackgroundMetrics
from ..telemetry.merge import WorkerTotals
from ..telemetry.provider_health import ProviderHealth
from ..telemetry.supervisor_metrics import DatabaseState, SupervisorMetrics
from ..telemetry.traffic import TrafficHistory
from . import admin_service as administer
from . import own_valkey as own_store
from .config_source import AcceptedConfig, ConfigSource, read_for_start, write_accepted
from .envoy_admin import EnvoyAdminClient
from .forked_worker import first_worker
from .own_envoy import DRAIN, OwnEnvoy
from .own_memory import with_memory
from .reload import ConfigReloader
from .state_access import tighten
from .state_owner import StateOwner, owned, owner
from .supervisor import ProcessSpec, Supervisor, check_free, remove_quietly

if TYPE_CHECKING:
    from ..pages.sessions import OneTimeLink
    from ..server import admin
    from .worker_client import WorkerClient

if TYPE_CHECKING:
    from ..store.ingest_loop import IngestLoop

# Seconds for Envoy to stop. Open requests have had the workers' grace by then.
_ENVOY_GRACE = 5.0
# Deaths of Envoy in a row, each soon after its start, after which the gateway ends.
_ENVOY_RESTARTS = 5
_POLL_INTERVAL = 0.02
# Seconds that the start waits until lost counters of limits are rebuilt. Later, it goes on beside.
_RESTORE_SECONDS = 10.0
# Milliseconds until Envoy writes its access lines, if they are few. Its default is ten seconds.
_LOG_EVERY_MS = 1000
# Seconds between two readings of the workers' counters, and how many times as long as a reading the pause is at least.
_KEEP_SECONDS, _KEEP_SHARE = 1.0, 20
ENVOY = "envoy"


def worker_name(index: int) -> str:
    return f"worker {index}"


class RunningGateway:
    """The running gateway."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self.config = config
        self.supervisor = supervisor
        self._totals = WorkerTotals()
        supervisor.on_death = self._totals.retire
        self.database = DatabaseState()
        self._health = ProviderHealth(lambda: self.config.providers)
        self._tasks = BackgroundMetrics(BACKGROUND)
        self.traffic = TrafficHistory(
            lambda: self.config.providers, lambda: (self._serving_workers(), self.config.agent.workers)
        )
        self.link: OneTimeLink | None = None
        """Signs one user in on the admin pages."""
        self.own: SupervisorMetrics | None = None
        """The supervisor's own metrics."""
        self._envoy: EnvoyAdminClient | None = None
        self.own_envoy: OwnEnvoy | None = None
        """The Envoy that the gateway runs, if its resources can be changed."""

    @cached_property
    def workers(self) -> Sequence[WorkerClient]:
        """The clients. Their modules are imported when the workers are already starting."""
        from .worker_client import WorkerClient

        tls = mutual_tls(self.config.agent)
        return [WorkerClient(address, tls) for address in self.config.agent.own_addresses()]

    def worker_specs(self, origin: ConfigSource) -> list[ProcessSpec]:
        """One process per worker."""
        return [self._worker_spec(n, origin) for n in range(len(self.config.agent.own_addresses()))]

    def _worker_spec(self, index: int, origin: ConfigSource) -> ProcessSpec:
        arguments = ("--index", str(index), *origin.arguments())
        child = first_worker() if index == 0 else None

        async def ready() -> None:
            await self.workers[index].until_serving()

        async def answers() -> bool:
            return await self.workers[index].answers()

        return ProcessSpec(
            worker_name(index),
            (sys.executable, "-m", "edge_extproc", "worker", *arguments),
            ready,
            restart=True,
            # The last two seconds are for a stream that does not end.
            grace=self.config.agent.shutdown_grace.total_seconds() + 2.0,
            own_stdout=True,
            answers=answers,
            forked=partial(child.begin, arguments) if child is not None else None,
        )

    def envoy_spec(self) -> ProcessSpec:
        """Renders Envoy's configuration. Raises ConfigError."""
        from ..envoy_config import bootstrap as render_envoy
        from ..envoy_config import validate

        binary = validate.envoy_path()
        bootstrap: Mapping[str, object]
        self._envoy = client = EnvoyAdminClient(self.config.envoy_admin_socket() or self.config.envoy.admin.port or 0)
        if can_change(self.config):
            self.own_envoy = OwnEnvoy(with_memory(self.config), client, binary)
            bootstrap = self.own_envoy.start()
        else:
            bootstrap = render_envoy.render(with_memory(self.config))
        path = self.config.agent.socket_dir / "envoy.json"
        path.write_text(json.dumps(bootstrap, indent=1))
        argv = (
            binary,
            *("--config-path", str(path)),
            *("--log-level", self.config.envoy.log_level),
            *("--concurrency", str(self.config.envoy.concurrency)),
            "--disable-hot-restart",
            *("--file-flush-interval-msec", str(_LOG_EVERY_MS)),
            # After a change of the listener, the next response on an old connection closes it.
            *("--drain-time-s", str(DRAIN), "--drain-strategy", "immediate"),
        )
        return ProcessSpec(
            ENVOY,
            argv,
            self._until_envoy,
            restart=True,
            most_restarts=_ENVOY_RESTARTS,
            restarted=self._sample_as_configured,
            grace=_ENVOY_GRACE,
            clean=self._clean_envoy_line,
        )

    def _clean_envoy_line(self, line: str) -> str | None:
        """A line of Envoy, by the settings in force."""
        if self.config.envoy.log_level in envoy_log.VERBOSE_LEVELS:
            line = envoy_log.cleaned(line)
        return console.envoy_line(line) if logs.is_console(self.config.telemetry.log.format) else line

    async def _sample_as_configured(self) -> None:
        """A restarted Envoy has the sampling of the start. A changed one is part of its runtime alone."""
        otlp = self.config.telemetry.otlp
        if self._envoy is not None and otlp is not None:
            await self._envoy.sample(otlp.sampling)

    def _serving_workers(self) -> int:
        return sum(pid is not None for pid in self._pids())

    def worker_restarts(self) -> int:
        return sum(self.supervisor.restarts[worker_name(n)] for n in range(len(self.workers)))

    async def readiness(self) -> admin.Readiness:
        from ..server import admin

        serving = await asyncio.gather(*(client.serving() for client in self.workers))
        parts = {worker_name(n): up for n, up in enumerate(serving)}
        if self._envoy is not None:
            parts[ENVOY] = await self._envoy.ready()
        beside = await self._stores()
        up = self.database.is_up
        if up is not None:
            beside["database"] = "up" if up else "down"
        return admin.Readiness(
            parts,
            beside,
            {name: state for name, state in BACKGROUND.states.items() if state.failures},
            await asyncio.to_thread(self.database.quarantined_rows),
        )

    async def _stores(self) -> dict[str, str]:
        """The state of each store that workers use: down if one worker cannot use it."""
        states: dict[str, str] = {}
        for stores in await asyncio.gather(*(client.stores() for client in self.workers)):
            for name, down in stores.items():
                if down is not None or name not in states:
                    states[name] = "up" if down is None else f"down: {down}"
        return states

    async def metrics(self, openmetrics: bool) -> bytes:
        """The sum over all workers and the supervisor. A worker that does not answer counts with its last values."""
        await self._scrape()
        totals = self._totals.totals()
        self._health.look(totals)
        for own in (self._health, self.own, self._tasks):
            if own is not None:
                totals.add(snapshot.read(snapshot.take(own)))
        return totals.exposition(openmetrics=openmetrics)

    async def keep_counts(self) -> None:
        """Reads the counters of all workers every second, so that a worker that is killed loses no older counts. With
        very many series, it takes at most a twentieth of the time."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._scrape()
            if self.config.admin.has_pages and self.traffic.is_due:
                self.traffic.record(self._totals.totals())
            await asyncio.sleep(max(_KEEP_SECONDS, _KEEP_SHARE * (loop.time() - began)))

    async def _scrape(self) -> None:
        before, reading = self._pids(), self._totals.begin()
        counts = await asyncio.gather(*(client.metrics() for client in self.workers))
        for pid, now, scraped in zip(before, self._pids(), counts, strict=True):
            if pid is None:
                continue
            # If the worker was replaced meanwhile, the counts may be those of the new process.
            if scraped is not None and pid == now:
                self._totals.record(pid, scraped, reading)
            else:
                self._totals.mark_silent(pid)

    def _pids(self) -> list[int | None]:
        return [self.supervisor.processes.get(worker_name(n)) for n in range(len(self.workers))]

    async def limit_uses(self) -> Mapping[LimitKey, LimitUse]:
        """How much of each limit is used now, over all workers."""
        return joined(await asyncio.gather(*(client.limits() for client in self.workers)))

    async def purge_cache(self, selection: bytes) -> int:
        """Removes replies from every worker and from the shared store. Returns how many were removed. `selection` is as
        cache/purge.py reads it. Only for authenticated admins: after a purge, providers must be paid again. Raises
        BadRequest, or Unavailable if some replies may remain."""
        return sum(await asyncio.gather(*(client.purge_cache(selection) for client in self.workers)))

    async def reload(self) -> bool:
        """Makes all workers read configuration and managed state again. Returns whether all have applied them."""
        return all(await asyncio.gather(*(client.reload() for client in self.workers)))

    async def apply(self, old: Config, new: Config) -> bool:
        """Applies the accepted configuration in all processes. Returns whether all have applied it."""
        log = new.telemetry.log
        store = new.own_store_socket()
        if store is not None and own_store.NAME not in self.supervisor.processes:
            # Callers have limits now, and had none at the start.
            await self.supervisor.start([own_store.part(store, new.agent.state_dir)])
        if not await self.reload():
            return False
        self.config = new
        logs.set_up(log.level, stream=sys.stderr, console=logs.is_console(log.format))
        was, is_ = old.telemetry.otlp, new.telemetry.otlp
        if self._envoy is None or was is None or is_ is None or was.sampling == is_.sampling:
            return True
        return await self._envoy.sample(is_.sampling)

    async def envoy_metrics(self) -> bytes | None:
        """None if no Envoy answers at the configured admin address: the gateway's own, or one that runs elsewhere."""
        at = self.config.envoy_admin_socket() or self.config.envoy.admin.port
        envoy = self._envoy if self._envoy is not None or at is None else EnvoyAdminClient(at)
        return await envoy.metrics() if envoy is not None else None

    async def drained(self) -> None:
        """Drains Envoy before it is stopped: open requests may end within the grace, and no new ones are accepted."""
        envoy = self._envoy
        if envoy is None or ENVOY not in self.supervisor.processes or not await envoy.drain():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.agent.shutdown_grace.total_seconds()):
                active = await envoy.active_requests()
                while active:
                    await asyncio.sleep(_POLL_INTERVAL)
                    active = await envoy.active_requests()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.workers))

    async def _until_envoy(self) -> None:
        # Envoy has no push interface for it: poll.
        ready = self._envoy is not None and await self._envoy.ready()
        while not ready:
            await asyncio.sleep(_POLL_INTERVAL)
            ready = self._envoy is not None and await self._envoy.ready()


@contextlib.asynccontextmanager
async def launched(origin: ConfigSource, *, with_envoy: bool, quiet: bool = False) -> AsyncIterator[RunningGateway]:
    """Yields the gateway when every process serves. Raises ConfigError or StartError; then all processes are stopped
    and their sockets removed."""
    config, accepted = read_for_start(origin)
    require_extras(config)
    own_store.check_store(config, with_own=with_envoy)
    logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=logs.is_console(config.telemetry.log.format))
    # Before anything is written or removed there.
    with owned((config.agent.state_dir, config.agent.socket_dir), _owner(origin, config, with_envoy=with_envoy)):
        async with _launched(origin, config, accepted, with_envoy=with_envoy, quiet=quiet) as gateway:
            yield gateway


def _owner(origin: ConfigSource, config: Config, *, with_envoy: bool) -> StateOwner:
    verb = "up" if with_envoy else "serve"
    at = config.listen if with_envoy else config.admin
    command = f"{verb} --config {origin.path.absolute()}" if origin.path is not None else verb
    return owner(command, f"{at.address}:{at.port}", time.time())


@contextlib.asynccontextmanager
async def _launched(
    origin: ConfigSource, config: Config, accepted: AcceptedConfig, *, with_envoy: bool, quiet: bool
) -> AsyncIterator[RunningGateway]:
    admin_at = config.admin
    for section, listener in config.listen.listeners() if with_envoy else ():
        check_free(listener.address, listener.port, origin.setting("--port", f"{section}.port"))
    check_free(str(admin_at.address), admin_at.port, origin.setting("--admin-port", "admin.port"))
    if (tcp := config.agent.tcp) is not None:
        for worker in range(config.agent.workers):
            check_free(tcp.address, tcp.port_of(worker), origin.setting("", "agent.tcp.port"))
    shares_sockets = config.agent.socket_access == "group"
    _make_private(config.agent.socket_dir, 0o750 if shares_sockets else 0o700)
    tighten(config.agent.state_dir, config.agent.socket_dir, shares_sockets=shares_sockets)
    # Its times are monotonic, and that clock restarts with the machine.
    remove_quietly(config.agent.circuits_file)
    if origin.path is not None:
        origin = replace(origin, accepted=_write_accepted(config.agent.socket_dir / "accepted.json", accepted))
    origin = replace(origin, versioned_clusters=with_envoy and can_change(config))
    supervisor = Supervisor(quiet=quiet)
    gateway = RunningGateway(config, supervisor)
    reloading = ConfigReloader(
        origin,
        config,
        accepted.text,
        gateway.apply,
        with_envoy=with_envoy,
        envoy=lambda: gateway.own_envoy,
        additions=accepted.additions,
    )
    gateway.own = SupervisorMetrics(config.agent.workers, gateway.worker_restarts, reloading.reloads, gateway.database)
    starting = _stop_on_signals(supervisor, reloading.request)
    watching: list[asyncio.Task[None]] = []
    web: admin.AdminServer | None = None
    serving: asyncio.Task[None] | None = None
    ledger = contextlib.AsyncExitStack()
    # Beside the rest of the start. A worker that needs it earlier waits for it.
    compiling = asyncio.create_task(asyncio.to_thread(prices.compiled, config.agent.state_dir), name="prices")
    try:
        may_wait = _has_run_before(config)
        gateway.link = administer.sign_in_link(config) if with_envoy else None
        ingest = await ledger.enter_async_context(_ingesting(config, gateway.database, wait=may_wait))
        api = await ledger.enter_async_context(
            administer.administered(
                reloading,
                gateway.reload,
                gateway.purge_cache,
                gateway.limit_uses,
                gateway.traffic.overview,
                lambda: gateway.workers,
                with_envoy=with_envoy,
                link=gateway.link,
                wait=gateway.database.is_up is False,
            )
        )
        store = config.own_store_socket()
        if store is not None:
            # Before the workers, which need it for their limits.
            await supervisor.start([own_store.part(store, config.agent.state_dir)])
        if ingest is not None:
            await ledger.enter_async_context(_rebuilding(lambda: reloading.config, ingest))
        parts = gateway.worker_specs(origin)
        if origin.rehearsal_port:
            parts.append(_rehearsal(origin.rehearsal_port))
        started = asyncio.ensure_future(supervisor.start(parts))
        try:
            # Beside the start of the workers.
            if with_envoy:
                await supervisor.start([await asyncio.to_thread(gateway.envoy_spec)])
            web = await asyncio.to_thread(_admin_server, gateway, reloading, api)
            await compiling
            await started
        finally:
            started.cancel()
            await asyncio.gather(started, return_exceptions=True)
        serving = asyncio.create_task(web.serve(), name="admin port")
        await web.until_started()
        starting.clear()
        garbage.collect_from_now()
        watching.append(BACKGROUND.start("configuration_file", reloading.watch))
        watching.append(BACKGROUND.start("keep_counts", gateway.keep_counts))
        yield gateway
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        if not starting.is_set():
            await gateway.drained()
        await supervisor.stop()
        await asyncio.gather(compiling, return_exceptions=True)
        if web is not None and serving is not None:
            web.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
        await gateway.close()
        if gateway.own_envoy is not None:
            await gateway.own_envoy.close()
        # Last: it also ingests what the workers settled while they stopped.
        await ledger.aclose()
        own = (config.envoy_admin_socket(), reloading.config.own_store_socket(), config.agent.circuits_file)
        for path in (*config.agent.worker_sockets(), *config.agent.bridge_sockets(), *own, origin.accepted):
            if path is not None:
                remove_quietly(Path(path))


def _admin_server(
    gateway: RunningGateway, reloading: ConfigReloader, service: administer.AdminService | None
) -> admin.AdminServer:
    """The server of the admin port. It imports uvicorn and starlette."""
    from ..server import admin

    at = gateway.config.admin
    api = service.api if service is not None else None
    pages = service.pages(gateway.config, reloading.shown) if service is not None else None
    return admin.server(
        admin.build(gateway.readiness, gateway.metrics, gateway.envoy_metrics, api, reloading.shown, pages),
        str(at.address),
        at.port,
        admits=api.state.gate.admits if api is not None else admin.admit_all,
        hosts=[name.lower() for name in at.hosts],
        linked=admin.LINKED if at.oidc is not None else (),
    )


def _has_run_before(config: Config) -> bool:
    """Whether an earlier run has left the files from which the gateway can start without the database."""
    return (config.managed_file if config.has_admin_api else config.journal_dir()).exists()


@contextlib.asynccontextmanager
async def _ingesting(config: Config, database: DatabaseState, *, wait: bool) -> AsyncIterator[IngestLoop | None]:
    """Ingests the workers' journals into the ledger; None if there is none. `wait`: start even if the database is down,
    and connect later. Raises StartError."""
    url = config.database_url()
    if config.store is None or url is None:
        yield None
        return
    from ..store import ingest_loop, journal  # imports SQLAlchemy, so only with a ledger
    from ..store.quarantine import Quarantine

    store = config.store
    database.journal_bytes = lambda: journal.size(config.journal_dir())
    quarantine = Quarantine(config.quarantine_file)
    database.quarantined_rows = lambda: quarantine.rows

    def opened(*, wait: bool) -> ingest_loop.IngestLoop:
        journals = config.journal_dir()
        return ingest_loop.open_ingest_loop(
            url,
            journals,
            quarantine,
            every=store.every,
            keep=store.keep,
            keep_explanations=store.keep_explanations,
            report_reachable=database.set_up,
            wait=wait,
        )

    try:
        ingest = await asyncio.to_thread(opened, wait=False)
        database.set_up(True)
    except StartError as error:
        if not wait:
            raise
        ingest = await asyncio.to_thread(opened, wait=True)
        database.set_up(False)
        structlog.get_logger().warning(
            "started_without_database",
            error=error.message,
            keys_and_budgets="as last known" if config.has_admin_api else "of the configuration",
            usage="waits in the journal",
        )
    stop = asyncio.Event()
    keeping = BACKGROUND.start("ledger", lambda: ingest.run(stop), stop)
    try:
        yield ingest
    finally:
        stop.set()
        await asyncio.gather(keeping, return_exceptions=True)
        ingest.close()


@contextlib.asynccontextmanager
async def _rebuilding(config: Callable[[], Config], ingest: IngestLoop) -> AsyncIterator[None]:
    """Rebuilds lost counters of limits: those of the only worker before it starts, those of a shared store at any
    time."""
    from sqlalchemy.exc import SQLAlchemyError

    from .limit_rebuild import LimitRebuilder

    rebuilder = LimitRebuilder(config, ingest)
    task = BACKGROUND.start("rebuild_limits", rebuilder.run)
    try:
        # Before the workers start, which serve nothing of a budget until then.
        async with asyncio.timeout(_RESTORE_SECONDS):
            if config().rebuilds_limits and config().limit_store_url() is None:
                await rebuilder.restore_file()
            await rebuilder.checked.wait()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("limits_not_rebuilt", exc_info=error)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _write_accepted(path: Path, accepted: AcceptedConfig) -> Path:
    try:
        write_accepted(path, accepted)
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}; set agent.sockets") from error
    return path


def _rehearsal(port: int) -> ProcessSpec:
    async def ready() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(_POLL_INTERVAL)
            else:
                writer.close()
                return

    argv = (sys.executable, "-m", "edge_extproc.rehearsal", "--port", str(port))
    return ProcessSpec("rehearsal provider", argv, ready)


def _make_private(directory: Path, mode: int) -> None:
    """For the sockets: a process that can write to one can act as Envoy."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise StartError(f"cannot create {directory}: {error.strerror}; set agent.sockets") from error


def _stop_on_signals(supervisor: Supervisor, reload: Callable[[], None]) -> asyncio.Event:
    """SIGINT and SIGTERM stop the supervisor or, while the returned event is set, the start. SIGHUP reloads the
    configuration, unless the terminal was closed."""
    starting, task, loop = asyncio.Event(), asyncio.current_task(), asyncio.get_running_loop()
    starting.set()

    def stop() -> None:
        supervisor.stop_soon()
        if starting.is_set() and task is not None:
            task.cancel()

    had_terminal = _has_terminal()

    def hung_up() -> None:
        if had_terminal and not _has_terminal():
            stop()
        else:
            reload()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    return starting


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
