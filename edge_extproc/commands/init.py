"""`edge-extproc init`: writes a configuration that works, from flags or from answers at a terminal.

The file holds no secret. Keys that are typed, the caller's key and the pepper are files of the state directory, which
only their owner can read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..config import load
from ..config.default_models import (
    BuiltinProvider,
    LocalServer,
    default_providers,
    key_variables,
    local_hosts,
    models_of,
    provider_line,
    server_line,
)
from ..config.extras import LEDGER
from ..config.limits import read_dollars
from ..config.part import read_label
from ..config.quantities import read_port
from ..errors import StartError
from ..gateway import local_servers
from ..gateway.config_source import ensure_pepper, ensure_secret, write_private

SCHEMA_FILE = "config.schema.json"
Ask = Callable[[str], str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the file is to say. None: not chosen yet."""

    providers: tuple[str, ...] = ()
    tenant: str | None = None
    port: int | None = None
    admin_port: int = 10001
    dollars_per_day: str | None = None
    tls: bool = False
    ledger: bool = False
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Typed keys by provider. Without one, the provider's environment variable is read at each start."""


def known_providers() -> list[str]:
    return [*(each.name for each in default_providers()), *(host.name for host in local_hosts())]


def write(
    path: Path,
    state_dir: Path,
    choices: Choices,
    environ: Mapping[str, str],
    *,
    ask: Ask | None,
    ask_secret: Ask | None = None,
    force: bool = False,
) -> list[str]:
    """Writes the file and what it needs, and returns the lines to show. `ask` puts a question to the user and returns
    the answer; None: nobody is there to answer. Raises StartError and ConfigError."""
    if path.exists() and not force:
        raise StartError(f"{path} exists; choose another file, or replace it with --force")
    servers = {server.name: server for server in local_servers.find(environ)}
    if ask is not None:
        choices = _ask_providers(choices, servers, environ, ask, ask_secret or ask)
    names = choices.providers or tuple(_at_hand(servers, environ))
    if not names:
        raise StartError(
            f"no provider was chosen, and no key is set; give --provider with {_either(known_providers())}"
        )
    providers = [_provider(name, servers) for name in names]
    choices = _checked(choices)
    try:
        for name, key in choices.keys.items():
            write_private(_make_directory(state_dir) / f"{name}-key", key + "\n")
        ensure_pepper(state_dir)
        ensure_secret(state_dir / f"{choices.tenant}-key")
        # The directory holds secrets, and a repository around it must not.
        write_private(state_dir / ".gitignore", "*\n")
        write_private(state_dir / SCHEMA_FILE, json.dumps(load.schema(), indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise StartError(f"cannot write {error.filename or state_dir}: {error.strerror}") from error
    read = [each for each in providers if isinstance(each, BuiltinProvider) and each.name not in choices.keys]
    missing = [variable for variable in (_variable(each, environ) for each in read) if not environ.get(variable)]
    text = _text(path, state_dir, choices, providers, environ)
    load.parse(text, str(path), environ={**environ, **dict.fromkeys(missing, "not set yet")}, base=path.parent)
    try:
        write_private(path, text)
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}") from error
    return list(_report(path, state_dir, choices, missing))


def _checked(choices: Choices) -> Choices:
    """With the default of what is not chosen. Raises StartError for what no configuration may have."""
    if choices.ledger:
        LEDGER.require("--ledger")
    try:
        return replace(
            choices,
            tenant=read_label(choices.tenant or "dev"),
            port=read_port(choices.port or 10000),
            admin_port=read_port(choices.admin_port),
            dollars_per_day=_dollars(choices.dollars_per_day or ""),
        )
    except ValueError as error:
        raise StartError(f"the tenant, a port or the budget: {error}") from error


def _report(path: Path, state_dir: Path, choices: Choices, missing: Sequence[str]) -> Iterator[str]:
    yield f"Wrote     {path}"
    yield f"Key       of {choices.tenant} in {state_dir / f'{choices.tenant}-key'}"
    for name in missing:
        yield f"Missing   {name}: set it before the start"
    yield f"Check     edge-extproc check {path}"
    yield f"Start     edge-extproc up --config {path}"


# --- questions


def _ask_providers(
    choices: Choices, servers: Mapping[str, LocalServer], environ: Mapping[str, str], ask: Ask, ask_secret: Ask
) -> Choices:
    """The choices with an answer for each that no flag has made."""
    if not choices.providers:
        at_hand = list(_at_hand(servers, environ))
        question = f"Providers, separated by commas ({', '.join(known_providers())})"
        names = _until_valid(ask, question, ",".join(at_hand), lambda text: _names(text, servers))
        choices = replace(choices, providers=names)
    keys = dict(choices.keys)
    for name in choices.providers:
        provider = _provider(name, servers)
        if isinstance(provider, BuiltinProvider) and not environ.get(_variable(provider, environ)):
            variable = _variable(provider, environ)
            key = ask_secret(f"Key of {name} (empty: {variable} is read at each start): ").strip()
            keys.update({name: key} if key else {})
    choices = replace(choices, keys=keys)
    if choices.tenant is None:
        choices = replace(choices, tenant=_until_valid(ask, "Name of your tenant", "dev", read_label))
    if choices.port is None:
        choices = replace(choices, port=_until_valid(ask, "Port for callers", "10000", read_port))
    if choices.dollars_per_day is None:
        dollars = _until_valid(ask, "Budget in dollars for each day (empty: none)", "", _dollars)
        choices = replace(choices, dollars_per_day=dollars)
    return choices


def _until_valid(ask: Ask, question: str, default: str, read: Callable[[str], T]) -> T:
    """The first answer that `read` accepts. An empty answer is the default."""
    prompt = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        try:
            return read(ask(prompt).strip() or default)
        except (ValueError, StartError) as error:
            prompt = f"{error}. {question}: "


def _names(text: str, servers: Mapping[str, LocalServer]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise StartError(f"Name at least one of {', '.join(known_providers())}")
    for name in names:
        _provider(name, servers)
    return names


def _dollars(text: str) -> str:
    if text:
        read_dollars(text)
    return text


# --- providers


def _at_hand(servers: Mapping[str, LocalServer], environ: Mapping[str, str]) -> Iterator[str]:
    """The providers whose key is set, and the servers on this machine."""
    yield from (each.name for each, _ in key_variables(environ))
    yield from servers


def _provider(name: str, servers: Mapping[str, LocalServer]) -> BuiltinProvider | LocalServer:
    if name in servers:
        return servers[name]
    for host in local_hosts():
        if host.name == name:
            raise StartError(f"{name} does not answer at {host.url}; start it, or set {host.variable}")
    for each in default_providers():
        if each.name == name:
            return each
    raise StartError(f"there is no provider {name!r} here; have {_either(known_providers())}")


def _variable(provider: BuiltinProvider, environ: Mapping[str, str]) -> str:
    """The variable of the provider's key: the one that is set, or the first."""
    return next((name for name in provider.default.keys if environ.get(name)), provider.default.keys[0])


def _either(names: Sequence[str]) -> str:
    return ", ".join(names)


# --- the file


def _make_directory(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def _text(
    path: Path,
    state_dir: Path,
    choices: Choices,
    providers: Sequence[BuiltinProvider | LocalServer],
    environ: Mapping[str, str],
) -> str:
    state, tenant = _seen_from(path.parent, state_dir), choices.tenant or ""
    budget = f"    limits: {{dollars_per_day: {choices.dollars_per_day}}}" if choices.dollars_per_day else None
    tls = ", tls: {generate: true}" if choices.tls else ""
    lines = [
        f"# yaml-language-server: $schema={state}/{SCHEMA_FILE}",
        "# `edge-extproc check` checks this file, and `edge-extproc up --config` starts a gateway with it.",
        f"listen: {{address: 127.0.0.1, port: {choices.port}{tls}}}",
        f"admin: {{address: 127.0.0.1, port: {choices.admin_port}}}",
        f"agent: {{state_dir: {_quoted(state)}}}",
        f"auth: {{pepper: {{file: {_quoted(f'{state}/pepper')}}}}}",
        "store: {}  # the usage ledger, for `edge-extproc usage`" if choices.ledger else None,
        "callers:",
        f"  - tenant: {_quoted(tenant)}",
        budget,
        "    # `edge-extproc key` makes further keys.",
        f"    keys: [{{id: {_quoted(tenant)}, key: {{file: {_quoted(f'{state}/{tenant}-key')}}}}}]",
        "providers:",
        *(f"  {_line(each, state, choices, environ)}" for each in providers),
        "models:  # in the order in which candidates are tried; a name may have * and ?",
        *(f"  {line}" for line in models_of(providers)),
        "",
    ]
    return "\n".join(line for line in lines if line is not None)


def _line(provider: BuiltinProvider | LocalServer, state: str, choices: Choices, environ: Mapping[str, str]) -> str:
    if isinstance(provider, LocalServer):
        return server_line(provider)
    if provider.name in choices.keys:
        return provider_line(provider, f"{{file: {_quoted(f'{state}/{provider.name}-key')}}}")
    return provider_line(provider, f"{{env: {_variable(provider, environ)}}}")


def _seen_from(directory: Path, path: Path) -> str:
    """The path for a file in `directory`: relative if it is below it."""
    directory, path = directory.absolute(), path.absolute()
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)


def _quoted(text: str) -> str:
    # Every JSON string is a YAML string. A dollar sign would begin a variable.
    return json.dumps(text).replace("$", "$$")
