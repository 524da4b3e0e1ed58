"""The command line: up · serve · init · check · doctor · render · usage · replay · migrate · key · guard · schema ·
completion · top.

Each mistake is one clear line on stderr and exit code 1; a usage mistake is exit code 2. `guard test` has more codes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

from cyclopts import App, Parameter

from . import __version__
from .errors import ConfigError, StartError, exit_code
from .model.rule_hit import TextKind
from .server import garbage
from .telemetry.plain_structlog import import_structlog

if TYPE_CHECKING:
    from .config.schema import Config

app = App(name="edge-extproc", help="An LLM gateway: Envoy and its policy server.", version=__version__)

ConfigPath = Annotated[Path | None, Parameter(name=("--config", "-c"), help="Configuration file (YAML).")]
StateDir = Annotated[
    Path | None, Parameter(help="Directory for keys, certificates and sockets; only without --config. Default: .edge.")
]
Port = Annotated[int | None, Parameter(help="The gateway's port; only without --config. Default: 10000.")]
AdminPort = Annotated[int | None, Parameter(help="The admin port; only without --config. Default: 10001.")]


@app.command
def up(
    config: ConfigPath = None,
    *,
    state_dir: StateDir = None,
    port: Port = None,
    admin_port: AdminPort = None,
) -> None:
    """Start Envoy and the agent, and run until Ctrl-C or SIGTERM."""
    from .gateway import banner, launch
    from .gateway.config_source import prepare

    async def run() -> None:
        origin = prepare(config, state_dir, port, admin_port)
        async with launch.launched(origin, with_envoy=True) as gateway:
            banner.show(gateway.config, origin, gateway.supervisor.processes, gateway.link)
            await gateway.supervisor.wait()

    asyncio.run(run())


@app.command
def serve(
    config: ConfigPath = None,
    *,
    state_dir: StateDir = None,
    port: Port = None,
    admin_port: AdminPort = None,
) -> None:
    """Start the agent alone, for an Envoy that runs elsewhere (see `render`)."""
    from .gateway import launch
    from .gateway.config_source import prepare

    async def run() -> None:
        origin = prepare(config, state_dir, port, admin_port)
        async with launch.launched(origin, with_envoy=False) as gateway:
            await gateway.supervisor.wait()

    asyncio.run(run())


def _print_limitations(config: Config) -> None:
    from .proxy.envoy_versions import lost, proxy_name

    for each in lost(config):
        print(f"edge-extproc: {proxy_name(config)}: {each}", file=sys.stderr)


@app.command
def init(
    config: Annotated[Path, Parameter(help="The file to write.")] = Path("edge.yaml"),
    *,
    provider: Annotated[
        tuple[str, ...], Parameter(help="A provider; may be repeated. Default: those whose key is set.")
    ] = (),
    tenant: Annotated[str | None, Parameter(help="The name of the first tenant. Default: dev.")] = None,
    port: Annotated[int | None, Parameter(help="The port for callers. Default: 10000.")] = None,
    admin_port: int = 10001,
    dollars_per_day: Annotated[str | None, Parameter(help="A budget of the tenant. Default: none.")] = None,
    tls: Annotated[bool, Parameter(help="Listen with a generated certificate.")] = False,
    ledger: Annotated[bool, Parameter(help="Keep a usage ledger.")] = False,
    state_dir: Annotated[Path | None, Parameter(help="Default: .edge beside the file.")] = None,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), help="Ask nothing.")] = False,
    force: Annotated[bool, Parameter(help="Replace the file.")] = False,
) -> None:
    """Write a configuration that works. At a terminal it asks for what no flag says."""
    from getpass import getpass

    from .commands import init as starter

    choices = starter.Choices(provider, tenant, port, admin_port, dollars_per_day, tls, ledger)
    ask = input if sys.stdin.isatty() and not yes else None
    at = state_dir or config.parent / ".edge"
    for line in starter.write(config, at, choices, os.environ, ask=ask, ask_secret=getpass, force=force):
        print(line)


@app.command
def check(config: Path) -> None:
    """Check a configuration file with the detectors of its guardrails and, if an Envoy is installed, the Envoy
    configuration that is rendered from it."""
    from .commands import check as examination
    from .config import load

    loaded = load.load(config)
    for warning in examination.warnings(loaded):
        print(f"edge-extproc: {warning}", file=sys.stderr)
    print(f"{config}: {examination.check_rendering(loaded)}")


@app.command
def doctor(
    config: ConfigPath = None,
    *,
    state_dir: StateDir = None,
    offline: Annotated[bool, Parameter(help="Do not ask stores and providers.")] = False,
) -> None:
    """Look for what prevents a start: versions, ports, files, keys, stores, providers, the clock."""
    from .commands import doctor as examination

    async def run() -> int:
        failed = 0
        async for found in examination.diagnose(config, state_dir, os.environ, online=not offline):
            print(found.line(), flush=True)
            failed += found.state == "fail"
        return failed

    failed = asyncio.run(run())
    if failed:
        raise StartError(f"{failed} of these checks failed")


@app.command
def render(
    config: ConfigPath = None,
    *,
    envoy_version: Annotated[str | None, Parameter(help="Render for this version of Envoy.")] = None,
    istio: Annotated[str | None, Parameter(help="Render for this release of Istio.")] = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), help="Write to this file.")] = None,
    target: Annotated[
        Literal["envoy", "custom", "istio-gateway", "istio-sidecar", "istio-waypoint"],
        Parameter(help="A bootstrap for your own Envoy or for one of another build, or an EnvoyFilter for Istio."),
    ] = "envoy",
    capabilities: Annotated[
        Path | None,
        Parameter(help="Custom: the proxy's /server_info or /config_dump (JSON), or its extensions, one a line."),
    ] = None,
    namespace: Annotated[
        str, Parameter(help="Istio: the namespace of the gateway, the waypoint or the application.")
    ] = "istio-ingress",
    workload: Annotated[
        tuple[str, ...], Parameter(help="Istio: a label of the pods whose proxy is patched, NAME=VALUE.")
    ] = ("istio=ingress",),
    listener_port: Annotated[
        int, Parameter(help="Istio: a port of the proxy for this gateway alone (its Service's targetPort).")
    ] = 8443,
    waypoint: Annotated[str, Parameter(help="Istio: the name of the waypoint's Gateway.")] = "llm-edge",
    service: Annotated[
        str, Parameter(help="Istio: the host name of the service behind a waypoint. Its port is --listener-port.")
    ] = "llm.llm.svc.cluster.local",
    route: Annotated[str, Parameter(help="Istio: the name of the VirtualService's route.")] = "llm",
    agent_identity: Annotated[
        str | None, Parameter(help="Istio: the agents' SPIFFE id, if the mesh encrypts the connections to them.")
    ] = None,
    state_dir: StateDir = None,
    port: Port = None,
    admin_port: AdminPort = None,
) -> None:
    """Render the proxy's configuration: a bootstrap for Envoy (JSON) or an EnvoyFilter for Istio (YAML)."""
    import orjson

    from .envoy_config import bootstrap as render_envoy
    from .envoy_config import istio as render_istio
    from .gateway.config_source import prepare
    from .proxy import extensions
    from .proxy.envoy_versions import at_istio, at_version, plans_alike, proxy_name

    configured = prepare(config, state_dir, port, admin_port).read()
    if target == "custom":
        if istio is not None:
            raise ConfigError("--istio: a custom proxy has no release of Istio; give --target istio-gateway")
        rendered = _for_custom_proxy(configured, capabilities, envoy_version)
    elif capabilities is not None:
        raise ConfigError(f"--capabilities: the capabilities of {target} depend on its release; give --target custom")
    elif envoy_version is not None and (istio is not None or target != "envoy"):
        raise ConfigError("--envoy-version: the Envoy of an Istio is Istio's own; give --istio with its release")
    else:
        rendered = at_istio(at_version(configured, envoy_version), istio)
    if target != "custom" and not plans_alike(rendered, configured):
        setting = f'istio: "{istio}"' if istio is not None else f'version: "{envoy_version}"'
        print(
            f"edge-extproc: the agent plans for {proxy_name(configured)}; give it envoy: {{{setting}}}", file=sys.stderr
        )
    _print_limitations(rendered)
    match target:
        case "envoy" | "custom":
            bootstrap = render_envoy.render(rendered)
            if capabilities is not None:
                extensions.check_rendering(bootstrap, _said_by_a_proxy(capabilities), str(capabilities))
            text = orjson.dumps(bootstrap, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
        case "istio-gateway" | "istio-sidecar" | "istio-waypoint":
            labels = render_istio.labels(workload)
            mesh = render_istio.MeshResources(
                namespace, labels, listener_port, route, agent_identity, waypoint=waypoint, service=service
            )
            text = render_istio.render(rendered, target, mesh)
    _write(text, output)


def _for_custom_proxy(configured: Config, file: Path | None, version: str | None) -> Config:
    """The configuration for the proxy that said what is in this file."""
    from .proxy import extensions
    from .proxy.envoy_versions import at_capabilities, capabilities_of

    if file is None:
        if configured.envoy.capabilities is None:
            raise ConfigError("--target custom: give --capabilities FILE, or set envoy.capabilities")
        if version is not None:
            raise ConfigError("--envoy-version: envoy.capabilities need no version; give --capabilities FILE with it")
        return configured
    found = extensions.capabilities(_said_by_a_proxy(file), str(file), version)
    if capabilities_of(configured) != frozenset(found):
        print(f"edge-extproc: give the agent envoy: {{capabilities: [{', '.join(found)}]}}", file=sys.stderr)
    return at_capabilities(configured, found)


def _said_by_a_proxy(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"--capabilities: cannot read {file}: {error.strerror}") from error


@app.command
def usage(
    config: ConfigPath = None,
    *,
    by: Annotated[
        str,
        Parameter(help="Comma-separated: tenant, team, user, key, model, response_model, run, day and others."),
    ] = "tenant,model",
    rows: Annotated[bool, Parameter(help="List each request instead of sums.")] = False,
    form: Annotated[Literal["table", "csv", "json"], Parameter(name=("--format", "-f"))] = "table",
    tenant: str | None = None,
    run: Annotated[str | None, Parameter(help="Only this run, with the runs that are a part of it.")] = None,
    first_day: Annotated[str | None, Parameter(help="In UTC, for example 2026-01-31.")] = None,
    last_day: str | None = None,
    state_dir: StateDir = None,
) -> None:
    """Show or export usage and cost from the ledger."""
    from .config.extras import LEDGER

    url = _ledger_url(config, state_dir)
    LEDGER.require("a report")
    from .store import report

    garbage.collect_from_now()
    where = report.filter_of(tenant=tenant, run=run, first_day=first_day, last_day=last_day)
    for line in report.lines(url, where, () if rows else report.dimensions_of(by), form):
        sys.stdout.write(line)


@app.command
def replay(
    config: Annotated[Path, Parameter(name=("--config", "-c"), help="The configuration to try.")],
    *,
    current: Annotated[
        Path | None, Parameter(help="The one in force, to leave out what it would refuse too. Its ledger is read.")
    ] = None,
    since: Annotated[str, Parameter(help="How far back, such as 24h or 90m.")] = "24h",
    form: Annotated[Literal["table", "json"], Parameter(name=("--format", "-f"))] = "table",
) -> None:
    """Replay the ledger against a configuration: who would be refused or routed elsewhere, and what it would cost."""
    from .commands import config_trial
    from .config.extras import LEDGER

    url = _ledger_url(current or config, None)
    LEDGER.require("a replay")
    garbage.collect_from_now()
    for line in config_trial.replay_of_files(config, current, url, since, form):
        print(line)


@app.command
def migrate(config: ConfigPath = None, *, state_dir: StateDir = None) -> None:
    """Migrate the ledger's database to the newest schema. The agent does this when it starts, too."""
    from .config.extras import LEDGER

    url = _ledger_url(config, state_dir)
    LEDGER.require("a migration")
    from .store.database import open_database

    open_database(url).dispose()
    print("the database has the newest schema")


@app.command
def key(
    config: Annotated[Path | None, Parameter(help="The configuration whose pepper is used. Only auth is read.")] = None,
    *,
    state_dir: StateDir = None,
) -> None:
    """Generate a key for a caller, and the line that stores its hash in a configuration. Without a configuration, the
    hash is for one that has its pepper in the state directory, as `init` writes it."""
    from .auth.api_key import digest
    from .config import load
    from .config.secrets import generate_key
    from .gateway.config_source import STATE_DIR, ensure_pepper

    if config is not None and state_dir is not None:
        raise StartError(f"--state-dir {state_dir} cannot be used with a configuration, whose auth.pepper is used")
    pepper = load.pepper(config).reveal() if config is not None else ensure_pepper(state_dir or STATE_DIR)
    new_key = generate_key()
    print(f"key (give it to the caller; it is not stored): {new_key}")
    print(f"line for callers[].keys: {{id: NAME, hash: 'hmac-sha256:{digest(pepper.encode(), new_key)}'}}")


guard = App(name="guard", help="Try the guardrails of a configuration.")
app.command(guard)


@guard.command(name="test")
def guard_test(
    *files: Annotated[
        str, Parameter(help="Texts, JSON bodies of calls, or recorded exchanges (also one a line). Default: stdin.")
    ],
    config: Annotated[Path, Parameter(name=("--config", "-c"), help="Configuration file (YAML).")],
    path: Annotated[
        str | None, Parameter(help="The path of the calls, such as /v1/messages. Default: found by the body.")
    ] = None,
    tenant: Annotated[str | None, Parameter(help="The caller's tenant. Default: the first of the file.")] = None,
    key: Annotated[str | None, Parameter(help="The id of the caller's key, with its team, user and roles.")] = None,
    model: Annotated[str | None, Parameter(help="The model of texts, and of bodies without a model.")] = None,
    kind: Annotated[
        TextKind | None,
        Parameter(help="What a text is. Default: each rule applies, whatever its kinds are."),
    ] = None,
    text: Annotated[bool, Parameter(help="Each file is a text, also if it is JSON.")] = False,
    reply: Annotated[bool, Parameter(help="Each file is a text of a reply.")] = False,
    offline: Annotated[bool, Parameter(help="Do not ask services.")] = False,
    show_request: Annotated[
        bool, Parameter(help="Print the body as the provider would get it: with what no rule masks.")
    ] = False,
    form: Annotated[Literal["text", "json"], Parameter(name=("--format", "-f"))] = "text",
) -> None:
    """Show what the guardrails would do to texts and calls. Findings are not shown, but their labels.

    Exit codes: 0 no rule finds anything; 3 a call would be refused; 4 something else is found; 1 and 2 mistakes.
    """
    from .commands import guard_inputs, guard_test
    from .config import load
    from .config.extras import require_extras

    if not files and sys.stdin.isatty():
        raise StartError("no file is given; give one or more, or a text on stdin")
    loaded = load.load(config)
    require_extras(loaded)
    inputs = list(guard_inputs.read_inputs(files or ("-",), path, as_text=text or reply, model=model))
    principal = guard_test.principal_of(loaded, tenant, key)
    trial = guard_test.GuardTest(loaded, principal, kind=kind, reply=reply, online=not offline, model=model)
    outcomes = asyncio.run(trial.run(inputs))
    if form == "json":
        print(json.dumps([guard_test.json_of(each, show_request=show_request) for each in outcomes], indent=1))
    else:
        for outcome in outcomes:
            for line in guard_test.lines_of(outcome, show_request=show_request):
                print(line)
    sys.exit(guard_test.exit_code_of(outcomes))


@app.command
def schema(
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), help="Write to this file.")] = None,
) -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from .config import load

    _write(json.dumps(load.schema(), indent=1, ensure_ascii=False) + "\n", output)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the completion script for a shell. For bash: source <(edge-extproc completion bash)."""
    sys.stdout.write(app.generate_completion(shell=shell))


def _ledger_url(config: Path | None, state_dir: Path | None) -> str:
    """Raises ConfigError if there is no ledger."""
    from .gateway.config_source import prepare

    url = prepare(config, state_dir).read().database_url()
    if url is None:
        raise ConfigError(
            f"{config} has no ledger; add store: {{}} to it"
            if config is not None
            else "without --config there is a ledger only if edge-extproc[admin] is installed; or give --config FILE "
            "with store: {} in it"
        )
    return url


def _write(text: str, output: Path | None) -> None:
    """Writes to a file, or to stdout. Raises StartError."""
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"cannot write {output}: {error.strerror}") from error


@app.command
def top(
    *,
    admin: Annotated[str, Parameter(help="The gateway's admin port.")] = "http://127.0.0.1:10001",
    interval: Annotated[float, Parameter(help="Seconds between two frames.")] = 2.0,
    once: Annotated[bool, Parameter(help="Print one frame and exit.")] = False,
) -> None:
    """Show live traffic: requests, latency, errors, cache, tokens and dollars, by provider, model and tenant."""
    from .telemetry import top as screen

    garbage.collect_from_now()
    screen.run(admin, max(interval, 0.1), once=once)


def main() -> NoReturn:
    """The entry point."""
    garbage.collect_later()
    import_structlog()
    try:
        sys.exit(exit_code(app))
    finally:
        garbage.collect_no_more()


if __name__ == "__main__":
    main()
