"""Providers and models that admins add while the gateway runs, merged under a configuration file.

The file wins: an addition with a name of the file is not used. An addition has the keys and values of the file's
sections, without replaced variables. What it may say is bounded by `admin.additions` of the file, because who may use
the admin API may not for this reason read files and variables of the machine, or reach every host from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from pydantic import ValidationError

from ..model.managed import Additions
from .admin import AdditionsConfig
from .mistakes import Mistake
from .schema import Config

AddedNames: TypeAlias = frozenset[tuple[str, str]]
"""Each a section and a name in it."""

# Without files, and without what weakens TLS or the separation of tenants.
_KEYS = ("kind", "host", "base_url", "api_key", "region", "api_version", "project", "account", "api", "location")
PROVIDER_KEYS = (*_KEYS, "profile")


def permitted(values: Mapping[str, Any]) -> AdditionsConfig | None:
    """What the values of a file permit. None: nothing, or the section has a mistake, which the validation of the file
    reports."""
    admin = values.get("admin")
    section = admin.get("additions") if isinstance(admin, dict) else None
    if section is None:
        return None
    try:
        return AdditionsConfig.model_validate(section)
    except ValidationError:
        return None


def merged(values: dict[str, Any], additions: Additions) -> tuple[dict[str, Any], AddedNames]:
    """The values of a file with the additions, and which were added. Additions whose names are in the file are not."""
    added: set[tuple[str, str]] = set()
    result = dict(values)
    for section, entries in (("providers", additions.providers), ("models", additions.models)):
        own = values.get(section)
        if not entries or not isinstance(own, dict):
            continue  # the section is required: its absence is reported
        result[section] = {**entries, **own}
        added |= {(section, name) for name in entries if name not in own}
    return result, frozenset(added)


def raw_mistakes(additions: Additions, added: AddedNames, permits: AdditionsConfig) -> list[Mistake]:
    """The mistakes that are found before the values are validated, which reads variables and files."""
    found: list[Mistake] = []
    for name, value in additions.providers.items():
        if ("providers", name) not in added:
            continue
        if not isinstance(value, dict):
            found.append(Mistake(("providers", name), "a provider is a mapping; give at least kind"))
            continue
        found += _of_provider(name, value, permits)
    return found


def _of_provider(name: str, value: Mapping[str, Any], permits: AdditionsConfig) -> Iterator[Mistake]:
    for key in value:
        if key not in PROVIDER_KEYS:
            have = ", ".join(PROVIDER_KEYS)
            yield Mistake(("providers", name, key), f"an added provider cannot have this key; have {have}")
    match value.get("api_key"):
        case None:
            pass
        case {"env": str(variable), **rest} if not rest:
            if not _matches(variable, permits.keys):
                right = f"name one that matches {', '.join(permits.keys)}" if permits.keys else "leave it out"
                yield Mistake(
                    ("providers", name, "api_key"), f"admin.additions.keys does not permit this variable; {right}"
                )
        case _:
            yield Mistake(("providers", name, "api_key"), "the key of an added provider is in a variable; {env: NAME}")


def host_mistakes(config: Config, added: AddedNames) -> Iterator[Mistake]:
    """The added providers whose host the configuration does not permit."""
    permits = config.admin.additions
    for section, name in sorted(added):
        if section != "providers" or permits is None:
            continue
        host = config.providers[name].endpoint.host
        if not _matches(host, permits.hosts):
            right = f"use one that matches {', '.join(permits.hosts)}" if permits.hosts else "add models only"
            yield Mistake(("providers", name), f"admin.additions.hosts does not permit the host {host}; {right}")


def _matches(text: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)
