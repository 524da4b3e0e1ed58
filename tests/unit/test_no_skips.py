"""`--no-skips`: what is skipped below a path fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import no_skips
import pytest

SKIPS = """
import pytest

@pytest.fixture
def tool():
    pytest.skip("the tool is not installed")

def test_with_a_tool(tool):
    pass

@pytest.mark.skipif(True, reason="the system has no such call")
def test_of_a_system():
    pass

@pytest.mark.xfail(reason="a known fault")
def test_that_is_expected_to_fail():
    assert False
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module", reason="the module is not installed")\n'


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ((), "3 skipped, 1 xfailed"),
        (("--no-skips=other", "--no-skips=need"), "3 skipped, 1 xfailed"),
        (("--no-skips=needed/test_tools.py",), "1 skipped, 1 xfailed, 2 errors"),
        (("--no-skips=needed", "--continue-on-collection-errors"), "1 xfailed, 3 errors"),
    ],
)
def test_what_is_skipped_below_a_path_fails(options: tuple[str, ...], counts: str, tmp_path: Path) -> None:
    (tmp_path / "needed").mkdir()
    (tmp_path / "needed" / "test_tools.py").write_text(SKIPS)
    (tmp_path / "needed" / "test_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no_skips", "-q"]
    command += ["-p", "no:cacheprovider", *options, "needed"]
    environment = {"PYTHONPATH": str(Path(no_skips.__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)

    assert f"{counts} in" in done.stdout, done.stdout
    assert ("the tool is not installed (--no-skips)" in done.stdout) == ("error" in counts)
