"""Loads a `Config` from a file, from text, or from the built-in defaults.

It raises only ConfigError, with one line for each mistake: `file:line:column: path.to.key: what is wrong; how to
correct it`. No line contains a value from the environment or a secret.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ..errors import ConfigError
from ..model.managed import NO_ADDITIONS, Additions
from . import default_models, document, wrong
from .additions import AddedNames, host_mistakes, merged, permitted, raw_mistakes
from .callers import AuthConfig
from .default_models import LocalServer
from .document import ConfigDocument, ConfigMistake, UnreadableDocument, dotted
from .mistakes import mistakes
from .plugin_choice import PluginChoice
from .pydantic_errors import words
from .schema import Config
from .secrets import Secret
from .surroundings import Surroundings

DEFAULT_NAME = "built-in configuration"
ADDED = "added by the admin API"
"""In messages, in place of a file's name."""

PEPPER_PATH = ("auth", "pepper")

# More than any configuration that a person or a program would write.
MAX_FILE = 16 << 20


def load(path: Path | str, environ: Mapping[str, str] = os.environ) -> Config:
    path = Path(path)
    return parse(read_text(path), str(path), environ=environ, base=path.parent)


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError if it cannot be read, is too large, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}; give the path of a configuration file") from exc
    if len(raw) > MAX_FILE:
        raise ConfigError(f"{path}: is over {MAX_FILE >> 20} MiB; give the path of a configuration file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}:1: this is not UTF-8; save the file in that encoding") from None
    return text


def parse(
    text: str,
    name: str,
    *,
    environ: Mapping[str, str] = os.environ,
    base: Path = Path(),
    additions: Additions = NO_ADDITIONS,
) -> Config:
    """Parses and validates `text`. `name`: the file's name in messages. `base`: the directory in which relative paths
    begin. `additions`: of the admin API; used if the text permits them. Raises ConfigError."""
    added: AddedNames = frozenset()
    try:
        read = document.read(text, environ)
    except UnreadableDocument as exc:
        faults = exc.mistakes
    else:
        added, faults = _add(read, additions)
        if not faults:
            config, faults = _validate(read, Surroundings(environ, base.absolute()), added)
            if config is not None:
                return config
    # Outside of any `except`: a chained error could contain a value.
    raise ConfigError("\n".join(_line(name, mistake, added) for mistake in sorted(faults, key=_order)))


def _add(read: ConfigDocument, additions: Additions) -> tuple[AddedNames, list[ConfigMistake]]:
    """Merges the additions into the document. Returns which were added, and their mistakes."""
    if additions == NO_ADDITIONS or not isinstance(read.values, dict):
        return frozenset(), []
    permits = permitted(read.values)
    if permits is None:
        return frozenset(), []
    read.values, added = merged(read.values, additions)
    found = raw_mistakes(additions, added, permits)
    return added, [ConfigMistake(read.place(each.path), each.path, each.text) for each in found]


def pepper(path: Path, environ: Mapping[str, str] = os.environ) -> Secret:
    """The pepper of a file. Mistakes elsewhere in the file, such as a provider's key that is not set here, do not
    matter. Raises ConfigError."""
    text, base = read_text(path), path.parent
    try:
        read = document.read(text, _Lenient(environ))
    except UnreadableDocument as exc:
        faults = exc.mistakes
    else:
        values = _with_pepper(read.values) if isinstance(read.values, dict) else {}
        section = values.get("auth")
        value = section.get("pepper") if isinstance(section, dict) else None
        try:
            return AuthConfig.model_validate({"pepper": value}, context=Surroundings(environ, base.absolute())).pepper
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_input=False)
            faults = [_mistake(read, {**error, "loc": ("auth", *error["loc"])}) for error in errors]
    raise ConfigError("\n".join(_line(str(path), mistake) for mistake in sorted(faults, key=_order)))


def names_in(text: str, section: str) -> frozenset[str]:
    """The names in a section of a file that was valid, such as `providers`."""
    values = document.read(text, _Lenient()).values
    entries = values.get(section) if isinstance(values, dict) else None
    return frozenset(entries) if isinstance(entries, dict) else frozenset()


class _Lenient(dict[str, str]):
    """An environment in which each variable is set; one that is not set has an empty value."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


def schema() -> dict[str, Any]:
    """JSON Schema of a configuration file, for editors."""
    from .json_schema import file_schema

    return file_schema()


# --- the defaults


def default(
    environ: Mapping[str, str],
    state_dir: Path | str,
    *,
    rehearsal_port: int,
    port: int = 10000,
    admin_port: int = 10001,
    local: Sequence[LocalServer] = (),
    pages: bool = False,
) -> Config:
    """The built-in configuration. <state_dir>/dev-key and <state_dir>/pepper must exist, and with `pages`
    <state_dir>/admin-token."""
    text = default_text(
        environ, state_dir, rehearsal_port=rehearsal_port, port=port, admin_port=admin_port, local=local, pages=pages
    )
    return parse(text, DEFAULT_NAME, environ=environ)


def default_text(
    environ: Mapping[str, str],
    state_dir: Path | str,
    *,
    rehearsal_port: int,
    port: int = 10000,
    admin_port: int = 10001,
    local: Sequence[LocalServer] = (),
    pages: bool = False,
) -> str:
    """The text of the built-in configuration. `local`: the servers that were found on this machine. `pages`: with a
    ledger and the admin pages."""
    state = Path(state_dir).absolute()
    token = f"{{id: dev, role: admin, token: {{file: {_quoted(state / 'admin-token')}}}}}"
    providers, models = default_models.providers_and_models(environ, rehearsal_port, local)
    return "\n".join(
        (
            f"listen: {{address: 127.0.0.1, port: {port}}}",
            f"admin: {{address: 127.0.0.1, port: {admin_port}{f', tokens: [{token}]' if pages else ''}}}",
            *(["store: {}"] if pages else []),
            f"agent: {{state_dir: {_quoted(state)}}}",
            f"auth: {{pepper: {{file: {_quoted(state / 'pepper')}}}}}",
            "callers:",
            f"  - {{tenant: dev, keys: [{{id: dev, key: {{file: {_quoted(state / 'dev-key')}}}}}]}}",
            "providers:",
            *(f"  {line}" for line in providers),
            "models:",
            *(f"  {line}" for line in models),
            "conversations: {}",
            "",
        )
    )


def _quoted(value: object) -> str:
    # Every JSON string is a YAML string. A dollar sign would begin a variable.
    return json.dumps(str(value)).replace("$", "$$")


# --- from pydantic's errors to ours


def _validate(
    read: ConfigDocument, around: Surroundings, added: AddedNames = frozenset()
) -> tuple[Config | None, list[ConfigMistake]]:
    if not isinstance(read.values, dict):
        return None, [ConfigMistake(read.place(()), (), "a configuration is a mapping; begin with `providers:`")]
    try:
        config = Config.model_validate(_with_pepper(read.values), context=around)
    except ValidationError as exc:
        # include_input=False: a value may be a secret.
        errors = exc.errors(include_url=False, include_input=False)
        # Of a file in another version, the other mistakes mean nothing: it may have keys that are not known here.
        of_version = [error for error in errors if error["loc"] == ("version",)]
        return None, [_mistake(read, error) for error in of_version or errors]
    of_all = (*mistakes(config), *host_mistakes(config, added))
    paths = [(_as_written(read, finding.path), finding.text) for finding in of_all]
    found = [ConfigMistake(read.place(path), path, text) for path, text in paths]
    return (None if found else config), found


def _with_pepper(values: dict[str, Any]) -> dict[str, Any]:
    """Adds the default of auth.pepper, which depends on the state directory."""
    agent = values.get("agent")
    state = agent.get("state_dir", ".edge") if isinstance(agent, dict) else ".edge"
    if "auth" in values or not isinstance(state, str):
        return values
    return {**values, "auth": {"pepper": {"file": f"{state}/pepper"}}}


def _mistake(read: ConfigDocument, error: ErrorDetails) -> ConfigMistake:
    declared = tuple(part for part in error["loc"] if part != "[key]")
    path = _as_written(read, declared)
    kind = error["type"]
    if kind == "extra_forbidden":
        return ConfigMistake(read.place(path, key=True), path, f"there is no such key; {_instead(declared)}")
    context = error.get("ctx", {})
    if kind == wrong.TYPE and context["key"] is not None and (*path, context["key"]) in read.places:
        path = (*path, context["key"])
    place = read.place(path, key="[key]" in error["loc"])
    text = words(kind, context)
    if path == PEPPER_PATH and isinstance(read.values, dict) and "auth" not in read.values:
        text += (
            ", or set auth: {pepper: {env: EDGE_PEPPER}} and give that variable a random text (openssl rand -hex 32)"
        )
    written = read.written.get(path)
    value_text = f"{written!r}: " if written is not None and context.get("show", True) and not _is_secret(path) else ""
    return ConfigMistake(place, path, value_text + text)


def _as_written(read: ConfigDocument, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path as it is in the file: a model may be the list of its candidates, without the key `candidates`."""
    if len(path) > 2 and path[0] == "models" and path[2] == "candidates":
        models = read.values.get("models") if isinstance(read.values, dict) else None
        if isinstance(models, dict) and isinstance(models.get(path[1]), list):
            return (*path[:2], *path[3:])
    return path


def _instead(path: tuple[str | int, ...]) -> str:
    have = sorted(_keys_at(path[:-1]))
    close = difflib.get_close_matches(str(path[-1]), have, n=1)
    return f"did you mean {close[0]}?" if close else f"have {', '.join(have)}"


def _is_secret(path: tuple[str | int, ...]) -> bool:
    """Whether the value at this path is a secret or a part of one."""
    return any(_declared(path[:n]) is Secret for n in range(1, len(path) + 1))


def _keys_at(path: tuple[str | int, ...]) -> list[str]:
    declared = _declared(path)
    if isinstance(declared, type) and issubclass(declared, PluginChoice):
        return list(declared.names())
    if not isinstance(declared, type) or not issubclass(declared, BaseModel):
        return []
    return [_name(name, field) for name, field in declared.model_fields.items()]


def _name(name: str, field: FieldInfo) -> str:
    """A field's name in the file."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def _field(section: type[BaseModel], written: str) -> FieldInfo | None:
    return next((field for name, field in section.model_fields.items() if _name(name, field) == written), None)


def _declared(path: tuple[str | int, ...]) -> Any:
    """The type that the schema declares at this path, without None. None: it declares none."""
    here: Any = Config
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = _field(here, str(step))
            here = field.annotation if field is not None else None
        elif isinstance(here, type) and issubclass(here, PluginChoice):
            here = here.section(str(step))
        else:  # tuple[X, ...] or Mapping[K, X]
            arguments = get_args(here)
            here = None if not arguments else arguments[0] if get_origin(here) is tuple else arguments[-1]
        here = _bare(here)
    return here


def _bare(declared: Any) -> Any:
    """Without `Annotated` and without None."""
    while True:
        if hasattr(declared, "__metadata__"):
            declared = declared.__origin__
            continue
        some = [argument for argument in get_args(declared) if argument is not type(None)]
        if len(some) == len(get_args(declared)) or not some:
            return declared
        declared = some[0]


# --- lines


def _order(mistake: ConfigMistake) -> tuple[document.Place, str]:
    return mistake.place, mistake.text


def _line(name: str, mistake: ConfigMistake, added: AddedNames = frozenset()) -> str:
    if mistake.path[:2] in added:
        return f"{ADDED}: {dotted(mistake.path)}: {mistake.text}"
    where = f"{name}:{mistake.place.line}:{mistake.place.column}: "
    return f"{where}{dotted(mistake.path)}: {mistake.text}" if mistake.path else where + mistake.text
