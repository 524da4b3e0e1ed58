"""The capabilities of a proxy that is no listed target, from what it says of its extensions.

A running Envoy names its extensions in `/server_info` and in the bootstrap of `/config_dump`, with its version. A plain
list of names has no version; then the lowest version applies that has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..errors import ConfigError
from .capabilities import CAPABILITIES, Capability, releases
from .rendered_extensions import used_by

# The extensions of each capability. The others depend on the version alone.
EXTENSIONS: Mapping[Capability, frozenset[str]] = {
    "priority_group": frozenset({"envoy.router.cluster_specifier_plugin.priority_group"}),
    "composite": frozenset({"envoy.clusters.composite"}),
    "aggregate": frozenset({"envoy.clusters.aggregate", "envoy.retry_priorities.previous_priorities"}),
    "metadata_matcher": frozenset(
        {"envoy.matching.matchers.metadata_matcher", "envoy.matching.inputs.dynamic_metadata"}
    ),
    "filter_state_matcher": frozenset({"envoy.filters.http.set_filter_state", "envoy.matching.inputs.filter_state"}),
}

# What every rendering uses. A test compares it with renderings.
NEEDED = frozenset(
    {
        "envoy.access_loggers.extension_filters.cel",
        "envoy.filters.http.ext_proc",
        "envoy.filters.http.header_mutation",
        "envoy.filters.http.health_check",
        "envoy.filters.http.match_delegate",
        "envoy.filters.http.router",
        "envoy.filters.http.upstream_codec",
        "envoy.filters.network.http_connection_manager",
        "envoy.health_checkers.grpc",
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.load_balancing_policies.maglev",
        "envoy.load_balancing_policies.override_host",
        "envoy.matching.inputs.request_headers",
    }
)

_NAME = re.compile(r"[a-z][\w-]*(\.[\w-]+)+", re.ASCII | re.IGNORECASE)
_RELEASE = re.compile(r"/(\d+)\.(\d+)\.\d+[^/]*/")
_FORMS = "the JSON of /server_info or /config_dump, a JSON list of extension names, or one name a line"


@dataclass(frozen=True, slots=True)
class _Proxy:
    names: frozenset[str]
    version: tuple[int, int] | None


def capabilities(data: bytes, where: str, version: str | None = None) -> tuple[Capability, ...]:
    """The capabilities of the proxy that said this, sorted. `version` is its version where it does not say it. Raises
    ConfigError."""
    proxy = _read(data, where)
    if missing := _missing(proxy, NEEDED):
        raise ConfigError(f"{where}: this proxy has no {', '.join(missing)}, and every configuration needs them")
    of_version = CAPABILITIES[f"envoy-{_release(proxy, where, version)}"]
    found = [each for each in of_version if not _missing(proxy, EXTENSIONS.get(each, frozenset()))]
    if not {"priority_group", "composite", "aggregate"} & set(found):
        raise ConfigError(
            f"{where}: this proxy cannot try providers in order: it has neither priority_group, nor composite, nor "
            "aggregate clusters with previous_priorities"
        )
    return tuple(sorted(found))


def check_rendering(rendering: Mapping[str, Any], data: bytes, where: str) -> None:
    """Raises ConfigError if the proxy that said this lacks an extension that a rendered configuration uses."""
    if missing := _missing(_read(data, where), used_by(rendering)):
        raise ConfigError(f"{where}: this proxy has no {', '.join(missing)}, and this configuration needs them")


def _missing(proxy: _Proxy, wanted: frozenset[str]) -> list[str]:
    """Lists that are made from the names in Envoy's build files have `envoy.clusters.dns` for `envoy.cluster.dns`."""
    return sorted(
        each for each in wanted if not {each, each.replace("envoy.cluster.", "envoy.clusters.")} & proxy.names
    )


def _release(proxy: _Proxy, where: str, version: str | None) -> str:
    """The listed release of Envoy whose settings the proxy knows."""
    known = releases("envoy")
    if version is not None:
        if version not in known:
            raise ConfigError(f"--envoy-version: {version!r} cannot be rendered for; have {', '.join(known)}")
        return version
    if proxy.version is None:
        has = (each for each in known if _only_from(each) & proxy.names)
        return max(has, key=_number, default=known[0])
    if proxy.version < _number(known[0]):
        major, minor = proxy.version
        raise ConfigError(f"{where}: this proxy is Envoy {major}.{minor}; the oldest that works is {known[0]}")
    return max((each for each in known if _number(each) <= proxy.version), key=_number)


def _only_from(release: str) -> frozenset[str]:
    """The extensions that this release added."""
    before = [each for each in releases("envoy") if _number(each) < _number(release)]
    added = CAPABILITIES[f"envoy-{release}"] - (CAPABILITIES[f"envoy-{before[-1]}"] if before else frozenset())
    return frozenset[str]().union(*(EXTENSIONS.get(each, frozenset()) for each in added))


def _number(release: str) -> tuple[int, int]:
    major, minor = release.split(".")
    return int(major), int(minor)


def _read(data: bytes, where: str) -> _Proxy:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: this is not text; it must be {_FORMS}") from None
    if text.lstrip()[:1] not in ("{", "["):
        return _Proxy(frozenset(_names(_lines(text), where)), None)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: this is not valid JSON: {error}") from None
    if isinstance(value, list):
        return _Proxy(frozenset(_names(((f"element {n}", each) for n, each in enumerate(value)), where)), None)
    node = _node(value)
    extensions = node.get("extensions")
    if not isinstance(extensions, list) or not extensions:
        raise ConfigError(f"{where}: there is no node with extensions in it; it must be {_FORMS}")
    enabled = (each for each in extensions if isinstance(each, dict) and each.get("disabled") is not True)
    return _Proxy(frozenset(str(each.get("name")) for each in enabled), _version(value, node))


def _lines(text: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if written := line.partition("#")[0].strip():
            yield f"line {number}", written


def _names(written: Iterable[tuple[str, object]], where: str) -> Iterator[str]:
    """The names of extensions, also those written as category/name."""
    empty = True
    for place, each in written:
        empty = False
        name = each.rpartition("/")[2] if isinstance(each, str) else ""
        if _NAME.fullmatch(name) is None:
            raise ConfigError(f"{where}: {place}: {str(each)[:60]!r} is not the name of an extension; write {_FORMS}")
        yield name
    if empty:
        raise ConfigError(f"{where}: there is no extension in it; it must be {_FORMS}")


def _node(value: dict[str, Any]) -> dict[str, Any]:
    """The node in the JSON of /server_info, of /config_dump, or in a bootstrap."""
    configs = value.get("configs")
    dumped = [each for each in configs if isinstance(each, dict)] if isinstance(configs, list) else []
    for holder in (value, value.get("bootstrap"), *(each.get("bootstrap") for each in dumped)):
        node = holder.get("node") if isinstance(holder, dict) else None
        if isinstance(node, dict):
            return node
    return {}


def _version(value: dict[str, Any], node: dict[str, Any]) -> tuple[int, int] | None:
    built = node.get("user_agent_build_version")
    version = built.get("version") if isinstance(built, dict) else None
    if isinstance(version, dict) and isinstance(version.get("major_number"), int):
        minor = version.get("minor_number", 0)
        return (version["major_number"], minor) if isinstance(minor, int) else None
    match = _RELEASE.search(str(value.get("version")))
    return (int(match[1]), int(match[2])) if match is not None else None
