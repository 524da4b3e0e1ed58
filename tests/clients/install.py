"""Installs the clients into the user's cache, outside of the project's tree and of its environment.

    cd tests && python -m clients.install [npm mcp python aider go]

The locked versions are those in the folders beside this file. A changed lock is a new installation.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
# What each installation is made from. These files are its identity.
FILES = {
    "npm": ("package.json", "package-lock.json"),
    "mcp": ("package.json", "package-lock.json", "authorized.mjs"),
    "python": ("requirements.lock",),
    "aider": ("requirements.lock",),
    "go": ("go.mod", "go.sum", "main.go"),
}
TOOLS = {"npm": "npm", "mcp": "npm", "python": sys.executable, "aider": sys.executable, "go": "go"}
SECONDS = 900


class NotInstalled(Exception):
    """The text says why."""


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-extproc" / "clients"


def directory(name: str) -> Path:
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for file in FILES[name]:
        digest.update((HERE / name / file).read_bytes())
    return cache() / f"{name}-{digest.hexdigest()[:16]}"


def is_installed(name: str) -> bool:
    return (directory(name) / ".done").exists()


def install(name: str) -> Path:
    """The directory of the installation, which is made where it is not there. Raises NotInstalled."""
    path = directory(name)
    if shutil.which(TOOLS[name]) is None:
        raise NotInstalled(f"{TOOLS[name]} is not installed")
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if not is_installed(name):
            for file in FILES[name]:
                shutil.copy(HERE / name / file, path)
            for command in _commands(name, path):
                _run(name, command, path)
            (path / ".done").touch()
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with (path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _commands(name: str, path: Path) -> Iterator[list[str]]:
    match name:
        case "npm":
            # Not `npm ci`: it refuses a lock without the programs of other platforms, and not each registry has those.
            yield ["npm", "install", "--no-save", "--ignore-scripts", "--no-fund", "--no-audit"]
            # The only scripts that run: they link the program of this platform, which is a package of its own.
            yield ["node", "node_modules/@anthropic-ai/claude-code/install.cjs"]
            yield ["node", "node_modules/opencode-ai/postinstall.mjs"]
        case "mcp":
            yield ["npm", "install", "--no-save", "--ignore-scripts", "--no-fund", "--no-audit"]
        case "go":
            yield ["go", "build", "-o", "clients", "."]
        case _:
            yield [sys.executable, "-m", "venv", "--clear", "venv"]
            pip = [str(path / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            # The lock names all packages, so pip resolves none. pip before 23.3 does not apply the locked version of a
            # package to a requirement of the same package with extras.
            yield [*pip, "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", "requirements.lock"]


def _run(name: str, command: list[str], path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GOWORK")}
    try:
        subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise NotInstalled(f"{name}: {command[0]} ended with {error.returncode}: {error.stderr[-600:]}") from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{name}: {command[0]} was not done after {SECONDS} s") from error


def main(names: list[str]) -> int:
    """Installs all that can be installed. Its exit code is 1 where something is missing."""
    missing = 0
    for name in names or FILES:
        try:
            print(f"{name}: {install(name)}", flush=True)
        except NotInstalled as error:
            print(f"not installed: {error}", file=sys.stderr, flush=True)
            missing = 1
    return missing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
