"""python deploy/trim.py [EXTRA]…: removes what the image's environment does not need.

It runs in the environment that it changes, as the last step of the Dockerfile's first stage:

- distributions that only build the gateway, or that only one of these extras needs;
- tests, type stubs, sources of compiled modules, and data of telephone numbers that no detector reads;
- botocore's descriptions of services, except those by which it gets credentials.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

GATEWAY = "edge-extproc"
# Extras that the image can be without. The others are small, or needed by most.
EXTRAS = ("aws", "azure", "google", "guardrails", "otel", "postgres")
# Folders that no module of a running gateway imports: tests, and the places and carriers of telephone numbers.
UNUSED = (
    *("sqlalchemy/testing", "alembic/testing", "mako/testing", "certifi/tests"),
    *("phonenumbers/geodata", "phonenumbers/carrierdata", "phonenumbers/tzdata"),
)
SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h"})
# botocore/credentials.py, tokens.py: assumed roles and web identities, IAM Identity Center, `aws login`.
SERVICES = ("sts", "sso", "sso-oidc", "signin")


def needed(installed: dict[str, Distribution], extras: Iterable[str]) -> set[str]:
    """The names of the gateway and of what it needs with these extras, directly or not."""
    found: set[str] = set()
    waiting = [(GATEWAY, frozenset({"", *extras}))]
    seen = set()
    while waiting:
        asked = waiting.pop()
        if asked in seen or asked[0] not in installed:
            continue
        seen.add(asked)
        name, wanted = asked
        found.add(name)
        for text in installed[name].requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted):
                waiting.append((canonicalize_name(requirement.name), frozenset({"", *requirement.extras})))
    return found


def superfluous(file: Path) -> bool:
    """Of a file of a distribution that stays, by its path in the environment."""
    text = file.as_posix()
    if file.suffix in SUFFIXES or any(text.startswith(f"{folder}/") for folder in UNUSED):
        return True
    parts = file.parts
    return parts[:2] == ("botocore", "data") and len(parts) > 3 and parts[2] not in SERVICES


def trim(without: frozenset[str]) -> tuple[list[str], int]:
    """Returns the names of removed distributions, and how many bytes were removed."""
    installed = {canonicalize_name(each.metadata["Name"]): each for each in distributions()}
    keep = needed(installed, {"all", *EXTRAS} - without - ({"all"} if without else set()) | {"ledger", "admin"})
    gone = sorted(set(installed) - keep)
    total, folders = 0, set()
    for name, distribution in installed.items():
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file)))
            if name in gone or superfluous(Path(str(file))):
                # Installers do not list the bytecode.
                for each in (path, *path.parent.glob(f"__pycache__/{path.stem}.*.pyc")):
                    if each.is_file():
                        total += each.stat().st_size
                        each.unlink()
                        folders.add(each.parent)
    for folder in folders:
        _without_empty(folder)
    return gone, total


def _without_empty(folder: Path) -> None:
    while folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def main(words: list[str]) -> None:
    without = frozenset(words)
    if unknown := without - set(EXTRAS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: the image can be without {', '.join(EXTRAS)}")
    gone, total = trim(without)
    print(f"removed {total / 1e6:.1f} MB; no longer installed: {', '.join(gone)}")


if __name__ == "__main__":
    main(sys.argv[1:])
