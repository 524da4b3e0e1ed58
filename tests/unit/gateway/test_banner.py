"""What `up` prints to paste."""

from __future__ import annotations

import ast
import shlex
import tempfile
from pathlib import Path

import pytest

from edge_extproc.gateway import banner
from edge_extproc.gateway.config_source import prepare


@pytest.mark.parametrize("name", ["plain", "it's mine", 'with "quotes" and $HOME'])
def test_the_snippets_name_the_file_of_the_key_whatever_its_directory_is(name: str) -> None:
    # A socket's path must be short, and pytest's directories are not.
    with tempfile.TemporaryDirectory(prefix="edge-") as short:
        origin = prepare(None, Path(short) / name, environ={"OPENAI_API_KEY": "a key"})
        lines = banner.text(origin.read({"OPENAI_API_KEY": "a key"}), origin, {}).splitlines()
    file = str(Path(short) / name / "dev-key")
    command = next(line for line in lines if "$(cat " in line)
    client = next(line for line in lines if line.startswith("client = "))

    assert ["cat", file] == shlex.split(command.partition("$(")[2].rpartition(")")[0])
    assert file in [node.value for node in ast.walk(ast.parse(client)) if isinstance(node, ast.Constant)]
