"""python -m deploy.pin: writes the digest of each image that the Dockerfile, docker-compose.yml, deploy/kubernetes and
the chart name by a tag. It needs docker and a network: the workflow of a release runs it.

With an argument, the reference of the gateway's own image with its digest, which the chart then installs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]
VALUES = Path("deploy") / "helm" / "edge-extproc" / "values.yaml"
Resolve: TypeAlias = Callable[[str], str]
"""Returns the digest of an image's index: `sha256:…`."""

# `FROM name:tag`, `image: name:tag`. A name without a tag is the gateway's own image.
_REFERENCE = re.compile(r"(?m)^((?:FROM|\s*(?:- )?image:) +)([\w./-]+:[\w.-]+)(?=[\s,}]|$)")
_IN_VALUES = re.compile(r'(\{repository: )([\w./-]+)(, tag: )([\w.-]+)(, digest: )""')
_OWN_IN_VALUES = re.compile(r'(?m)^image: \{repository: [\w./-]+, tag: "", digest: "[^"]*"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def paths(root: Path) -> Iterator[Path]:
    yield root / "Dockerfile"
    yield root / "docker-compose.yml"
    yield from sorted((root / "deploy" / "kubernetes").glob("*.yaml"))
    yield root / VALUES


def pinned(text: str, resolve: Resolve) -> str:
    """The text with a digest at each tag that has none."""
    text = _REFERENCE.sub(lambda at: f"{at[1]}{at[2]}@{_checked(resolve(at[2]), at[2])}", text)
    return _IN_VALUES.sub(
        lambda at: f'{at[1]}{at[2]}{at[3]}{at[4]}{at[5]}"{_checked(resolve(f"{at[2]}:{at[4]}"), at[2])}"', text
    )


def _checked(digest: str, image: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise SystemExit(f"{image}: {digest!r} is not a digest")
    return digest


def with_own_image(values: str, reference: str) -> str:
    """The chart's values with the gateway's image, `name@sha256:…`."""
    name, _, digest = reference.partition("@")
    own = f'image: {{repository: {name}, tag: "", digest: "{_checked(digest, name)}"'
    text, count = _OWN_IN_VALUES.subn(own, values)
    if count != 1:
        raise SystemExit(f"{VALUES} has no image of its own")
    return text


def _resolve(image: str) -> str:
    argv = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - our own images


def main(root: Path, resolve: Resolve, own: str | None) -> None:
    for path in paths(root):
        path.write_text(pinned(path.read_text(), resolve))
    if own is not None:
        path = root / VALUES
        path.write_text(with_own_image(path.read_text(), own))


if __name__ == "__main__":
    main(ROOT, _resolve, sys.argv[1] if len(sys.argv) > 1 else None)
