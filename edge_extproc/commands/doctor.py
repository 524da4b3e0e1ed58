"""`edge-extproc doctor`: looks for what prevents a start, or what will fail once calls come.

Each check is one line: `ok`, `warn` (it works, with a risk) or `fail`. Nothing is changed, and no call is made that
costs money. A line never contains a secret.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from .. import __version__
from ..config.extras import needed
from ..config.schema import Config
from ..config.secrets import KEY_PREFIX
from ..envoy_config import bootstrap as render_envoy
from ..envoy_config import validate
from ..errors import EdgeError, StartError
from ..gateway import own_valkey
from ..gateway.config_source import STATE_DIR, prepare
from ..gateway.state_owner import owner_of
from ..gateway.supervisor import check_free
from ..providers.probe import probe
from ..worker.wiring.cache import build_store as build_cache_store
from ..worker.wiring.limits import build_store as build_limit_store
from ..worker.wiring.providers import build_providers

State: TypeAlias = Literal["ok", "warn", "fail"]

_PATIENCE = 5.0
_LEAST_SPACE = 256 << 20
# AWS refuses a signature that is older or newer by five minutes; tokens have a leeway of 30 s (auth.jwt.leeway).
_MOST_SKEW, _SOME_SKEW = 300.0, 20.0
# Envoy has one socket for a caller and one for its provider. The rest is for listeners, files and the agent.
_SOCKETS_PER_CONNECTION, _OTHER_FILES = 2, 500
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    state: State
    subject: str
    text: str

    def line(self) -> str:
        return f"{self.state:<5}{self.subject:<14}{self.text}"


async def diagnose(
    path: Path | None, state_dir: Path | None, environ: Mapping[str, str], *, online: bool
) -> AsyncIterator[Diagnosis]:
    """All checks, in the order in which a start would fail. `online`: also ask stores and providers."""
    yield Diagnosis("ok", "edge-extproc", __version__)
    yield _python()
    try:
        config, rehearsed = _config(path, state_dir, environ)
    except EdgeError as error:
        for line in error.message.splitlines():
            yield Diagnosis("fail", "config", line)
        return
    yield Diagnosis("ok", "config", f"{path or 'built-in'} is valid")
    for check in (_extras, _envoy, _state, _ports, _files, _keys):
        for found in check(config):
            yield found
    if not online:
        return
    for found in await _stores(config):
        yield found
    if rehearsed:
        yield Diagnosis("ok", "provider", "no key is set: the rehearsal provider will answer")
        return
    async for found in _providers(config, environ):
        yield found


def _config(path: Path | None, state_dir: Path | None, environ: Mapping[str, str]) -> tuple[Config, bool]:
    """The configuration, and whether the rehearsal provider is used. The built-in configuration needs files; if there
    are none yet, it is read from a temporary directory."""
    if path is not None:
        return prepare(path, state_dir, environ=environ).read(environ), False
    real = (state_dir or STATE_DIR).absolute()
    if (real / "dev-key").exists() and (real / "pepper").exists():
        origin = prepare(None, real, environ=environ)
        return origin.read(environ), origin.rehearsal_port != 0
    with tempfile.TemporaryDirectory(prefix="edge-doctor-") as directory:
        origin = prepare(None, Path(directory), environ=environ)
        config = origin.read(environ)
    agent = config.agent.model_copy(update={"state_dir": real})
    return config.model_copy(update={"agent": agent}), origin.rehearsal_port != 0


# --- this machine


def _python() -> Diagnosis:
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        return Diagnosis("fail", "machine", f"{text}; the gateway needs Linux")
    return Diagnosis("ok", "machine", text)


def _extras(config: Config) -> Iterator[Diagnosis]:
    for setting, extra in needed(config):
        if not extra.is_installed():
            package = f"{extra.distribution}[{extra.name}]"
            yield Diagnosis("fail", "packages", f"{setting} needs more: pip install '{package}'")
    if config.own_store_socket() is not None:
        try:
            own_valkey.binary()
        except StartError as error:
            yield Diagnosis("fail", "valkey", error.message)


def _envoy(config: Config) -> Iterator[Diagnosis]:
    try:
        binary = validate.envoy_path()
        done = subprocess.run(  # noqa: S603 - the operator names the program
            [binary, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
        version = re.search(r"/(\d+\.\d+)\.\d+/", done.stdout)
        validate.validate(render_envoy.render(config), binary)
    except (EdgeError, OSError, subprocess.TimeoutExpired) as error:
        yield Diagnosis("fail", "envoy", error.message if isinstance(error, EdgeError) else type(error).__name__)
        return
    have = version[1] if version is not None else "an unknown version"
    if config.envoy.istio is None and config.envoy.capabilities is None and have != config.envoy.version:
        text = f"{binary} is {have}, and the configuration is rendered for {config.envoy.version}: set envoy.version"
        yield Diagnosis("warn", "envoy", text)
    else:
        yield Diagnosis("ok", "envoy", f"{have} at {binary} accepts the configuration")


def _state(config: Config) -> Iterator[Diagnosis]:
    directory = config.agent.state_dir
    there = next(each for each in (directory, *directory.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Diagnosis("fail", "state", f"{there} cannot be written; choose another agent.state_dir")
        return
    space = shutil.disk_usage(there).free
    if space < _LEAST_SPACE:
        yield Diagnosis("warn", "state", f"{there} has {space >> 20} MiB left; journals and logs need more")
    open_ones = sorted(path for path in _secret_files(directory) if stat.S_IMODE(path.stat().st_mode) & 0o077)
    for path in open_ones:
        yield Diagnosis("warn", "state", f"{path} can be read by others: chmod 600 {path}")
    owner = owner_of(directory)
    running = f"in use by {owner}" if owner is not None else f"{space >> 30} GiB free"
    yield Diagnosis("ok", "state", f"{directory}: {running}")


def _secret_files(directory: Path) -> Iterator[Path]:
    for pattern in ("pepper", "*-key", "tls/*.key", "tls/*key*.pem", "edge.db*", "journal/*", "quarantine.jsonl"):
        yield from (path for path in directory.glob(pattern) if path.is_file())


def _ports(config: Config) -> Iterator[Diagnosis]:
    owner = owner_of(config.agent.state_dir)
    listeners = [
        *((f"{path}.port", each.address, each.port) for path, each in config.listen.listeners()),
        ("admin.port", str(config.admin.address), config.admin.port),
    ]
    tcp = config.agent.tcp
    if tcp is not None:
        listeners += [
            ("agent.tcp.port", str(tcp.address), tcp.port_of(worker)) for worker in range(config.agent.workers)
        ]
    for key, address, port in listeners:
        try:
            check_free(address, port, key)
        except StartError as error:
            if owner is None:
                yield Diagnosis("fail", "port", error.message)
            else:
                yield Diagnosis("ok", "port", f"{address}:{port} is in use, as it should be while a gateway runs")
        else:
            yield Diagnosis("ok", "port", f"{address}:{port} is free")


def _files(config: Config) -> Iterator[Diagnosis]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _SOCKETS_PER_CONNECTION * config.limits.connections + _OTHER_FILES
    if limit != resource.RLIM_INFINITY and limit < needed:
        enough = max(limit - _OTHER_FILES, 0) // _SOCKETS_PER_CONNECTION
        text = f"{limit} suffice for {enough} connections, and limits.connections is {config.limits.connections}"
        yield Diagnosis("warn", "open files", f"{text}: ulimit -n {needed}")
    else:
        yield Diagnosis("ok", "open files", f"{limit} are allowed")


def _keys(config: Config) -> Iterator[Diagnosis]:
    now = time.time()
    for caller in config.callers:
        for key in caller.keys:
            if key.expires is not None and key.expires.timestamp() <= now:
                yield Diagnosis("warn", "keys", f"{key.id} of {caller.tenant} expired on {key.expires:%Y-%m-%d}")
    for name, provider in config.providers.items():
        if provider.api_key is not None and provider.api_key.reveal().startswith(KEY_PREFIX):
            yield Diagnosis("fail", "keys", f"the api_key of {name} is a key of this gateway, not of the provider")
    count = sum(len(caller.keys) for caller in config.callers)
    yield Diagnosis("ok", "keys", f"{count} of callers, {len(config.providers)} providers")


# --- stores


async def _stores(config: Config) -> list[Diagnosis]:
    found = []
    if config.limiter.url is not None:
        limits = build_limit_store(config)
        if limits is not None:
            found.append(await _reached("limit store", limits))
    if config.cache is not None and config.cache.redis is not None:
        found.append(await _reached("cache store", build_cache_store(config.cache.redis)))
    url = config.database_url()
    if url is not None and all(extra.is_installed() for _, extra in needed(config)):
        found.append(await asyncio.to_thread(_database, url))
    return found


class _Store(Protocol):
    async def check_writable(self) -> None: ...

    async def close(self) -> None: ...


async def _reached(name: str, store: _Store) -> Diagnosis:
    from ..telemetry.store_reasons import reason_of

    try:
        async with asyncio.timeout(_PATIENCE):
            await store.check_writable()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is the finding
        cause = error.__cause__ or error
        return Diagnosis("fail", name, error.message if isinstance(error, EdgeError) else reason_of(cause))
    finally:
        await store.close()
    return Diagnosis("ok", name, "can be read and written")


def _database(url: str) -> Diagnosis:
    from sqlalchemy.exc import SQLAlchemyError

    from ..store.database import reach, tables_of

    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return Diagnosis("ok", "database", "will be made at the first start")
    try:
        engine = reach(url)
        try:
            tables = tables_of(engine)
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        return Diagnosis("fail", "database", f"{type(error).__name__}; see store.database")
    except EdgeError as error:
        return Diagnosis("fail", "database", error.message)
    return Diagnosis("ok", "database", "can be read" if tables else "is empty: the first start makes its tables")


# --- providers and the clock


async def _providers(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Diagnosis]:
    proxy = next((name for name in _PROXIES if environ.get(name)), None)
    if proxy is not None:
        yield Diagnosis("warn", "network", f"{proxy} is set, and Envoy does not use it: providers are reached directly")
    built = build_providers(config)
    probes = await asyncio.gather(
        *(
            asyncio.to_thread(probe, built[name], provider, with_credential=False)
            for name, provider in config.providers.items()
        )
    )
    for each in probes:
        yield Diagnosis(each.state, "provider", each.message)
    skews = sorted((each.clock_skew for each in probes if each.clock_skew is not None), key=abs)
    if not skews:
        yield Diagnosis("warn", "clock", "not compared: no provider sent a date")
        return
    # The smallest one: a provider's own clock may be wrong.
    ahead = skews[0]
    state: State = "fail" if abs(ahead) > _MOST_SKEW else "warn" if abs(ahead) > _SOME_SKEW else "ok"
    hint = "; signatures and tokens need the right time" if state != "ok" else ""
    yield Diagnosis(state, "clock", f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}{hint}")
