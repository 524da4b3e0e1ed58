"""The first worker is a fork of the supervisor. Each test forks in a process of its own, which has one thread."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gateway import until

from edge_extproc.gateway import forked_worker

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no pidfd_open")

# The child writes what it is to stderr, which the parent reads; the parent writes to stdout what it has read.
CODE = """
import asyncio, json, os, signal, sys
from edge_extproc.telemetry.plain_structlog import import_structlog
import_structlog()
from edge_extproc.gateway import forked_worker

child = forked_worker.fork()
if child is not None:
    given = child.arguments()
    print(json.dumps({
        "given": given,
        "argv": sys.argv[1:],
        "orig_argv": sys.orig_argv,
        "command line": open("/proc/self/cmdline").read().strip("\\0").split("\\0"),
        "leads a session": os.getsid(0) == os.getpid(),
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
        "stdin": os.path.realpath("/proc/self/fd/0"),
        "modules": sorted(sys.modules),
    }), file=sys.stderr, flush=True)
    if "wait" in given:
        signal.pause()
    sys.exit(7)

async def main():
    worker = forked_worker.first_worker()
    assert forked_worker.first_worker() is None
    process = await worker.begin(["--index", "0", *sys.argv[1:]])
    line = await process.stderr.readline()
    before = process.returncode
    if "wait" in sys.argv:
        process.terminate()
    code = await process.wait()
    process.kill()  # it has ended: nothing happens
    print(json.dumps({
        "pid": process.pid,
        "child": json.loads(line),
        "codes": [before, code, process.returncode],
        "again": await worker.begin([]),
        "rest": (await process.stderr.read()).decode(),
    }))

asyncio.run(main())
"""


def forked(*arguments: str, inherited: tuple[int, ...] = ()) -> dict[str, Any]:
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=inherited)

    assert "" == done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_child_is_like_a_worker_that_was_started() -> None:
    found = forked()
    child = found["child"]

    assert ["--index", "0"] == child["given"]
    assert ["worker", "--index", "0"] == child["argv"]
    assert [sys.executable, "-m", "edge_extproc", "worker", "--index", "0"] == child["orig_argv"]
    assert ["edge-extproc", "worker", "--index", "0"] == child["command line"]
    assert child["leads a session"]
    assert os.devnull == child["stdin"]
    assert [None, 7, 7] == found["codes"]
    assert "" == found["rest"]


def test_the_child_keeps_no_file_that_the_supervisor_inherited(tmp_path: Path) -> None:
    """Otherwise a worker would hold the lock of a script, or a pipe whose reader waits for its end."""
    with (tmp_path / "lock").open("w") as lock:
        descriptors = forked(inherited=(lock.fileno(),))["child"]["descriptors"]

    assert [0, 1, 2, 3] == descriptors, "stdin, stdout, stderr, and the list itself"


def test_the_child_is_used_once() -> None:
    assert forked()["again"] is None


def test_the_child_can_be_ended() -> None:
    assert [None, -signal.SIGTERM, -signal.SIGTERM] == forked("wait")["codes"]


def test_the_child_has_what_both_import_and_nothing_of_the_supervisor_alone() -> None:
    modules = set(forked()["child"]["modules"])

    assert {f"edge_extproc.{name}" for name in forked_worker.COMMON} <= modules
    unwanted = {"cyclopts", "grpc", "uvicorn", "starlette", "rich", "edge_extproc.envoy_config", "edge_extproc.cli"}
    assert set() == unwanted & modules


def test_the_common_modules_are_those_of_both() -> None:
    """A module that a worker or the supervisor does not need would cost it memory and time."""

    def modules(imported: str) -> set[str]:
        code = f"import sys, {imported}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    both = modules("edge_extproc.__main__, edge_extproc.worker.main, edge_extproc.gateway.config_source")
    both &= modules("edge_extproc.gateway.launch, edge_extproc.gateway.worker_client")
    # The kinds of providers are imported when a configuration names them.
    common = {f"edge_extproc.{name}" for name in forked_worker.COMMON if not name.startswith("providers.")}

    assert set() == common - both


def test_the_supervisor_does_not_change_its_environment() -> None:
    """The first worker would not have the change, because it was forked before, and the others would."""
    code = """
import os
before = dict(os.environ)
import edge_extproc.cli, edge_extproc.gateway.launch, edge_extproc.gateway.worker_client
print(before == dict(os.environ))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "True" == done.stdout.strip()


# Ends without arguments for its child, whose id it prints.
WITHOUT = """
import os, sys
from edge_extproc.gateway import forked_worker
child = forked_worker.fork()
if child is not None:
    child.arguments()
    print("the child has arguments", flush=True)
    os._exit(1)
(task,) = os.listdir("/proc/self/task")
print(open(f"/proc/self/task/{task}/children").read().split()[0], flush=True)
os._exit(0)
"""


def test_the_child_ends_with_a_supervisor_that_gives_it_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)

    until(lambda: not Path(f"/proc/{done.stdout.strip()}").exists())
    assert done.stdout.strip().isdigit()


THREADED = """
import threading
from edge_extproc.gateway import forked_worker
stop = threading.Event()
threading.Thread(target=stop.wait).start()
print(forked_worker.fork(), forked_worker.first_worker())
stop.set()
"""


def test_a_process_with_threads_does_not_fork() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=True)

    assert "None None" == done.stdout.strip()


def test_a_child_that_was_reaped_is_not_used() -> None:
    code = CODE.replace(
        "    process = await", "    os.kill(worker.pid, 9); os.waitpid(worker.pid, 0)\n    process = await"
    )
    code = code.replace("    line = await", "    print(process); return\n    line = await")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "None" == done.stdout.strip()


def test_a_child_that_has_died_is_a_worker_that_died() -> None:
    """Its exit code and its stderr are in the message of the supervisor."""
    code = CODE.replace(
        "    given = child", "    print('out of memory', file=sys.stderr); os._exit(9)\n    given = child"
    )
    code = code.replace(
        "    process = await", "    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)\n    process = await"
    )
    code = code.replace(
        "    before = ", "    print(line.decode().strip(), await process.wait()); return\n    before = "
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ("", "out of memory 9") == (done.stderr, done.stdout.strip())


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_process_without_a_standard_stream_does_not_fork(closed: int, tmp_path: Path) -> None:
    """A worker that is started gets its streams in any case. The pipes of a fork would be among them."""
    code = """
import os, sys
from edge_extproc.gateway import forked_worker
child = forked_worker.fork()
if child is not None:
    os._exit(0)
open(sys.argv[1], "w").write(str(forked_worker.first_worker()))
"""
    shell = f'exec "$0" -c "$1" "$2" {closed}<&-'
    subprocess.run(["sh", "-c", shell, sys.executable, code, str(tmp_path / "worker")], check=True)

    assert "None" == (tmp_path / "worker").read_text()


WITHOUT_PROCESSES = """
import importlib, os, resource
from edge_extproc.gateway import forked_worker
for name in forked_worker.COMMON:
    importlib.import_module(f"edge_extproc.{name}")
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)  # root has no such limit
before = os.listdir("/proc/self/fd")
print(forked_worker.fork(), forked_worker.first_worker(), before == os.listdir("/proc/self/fd"))
"""


def test_without_a_process_for_it_there_is_no_child() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PROCESSES], capture_output=True, text=True, check=False)

    assert ("", "None None True") == (done.stderr, done.stdout.strip())


WITHOUT_PROC = """
import importlib, os, sys
from edge_extproc.gateway import forked_worker
for name in forked_worker.COMMON:
    importlib.import_module(f"edge_extproc.{name}")
os.chroot(sys.argv[1])
print(forked_worker.fork(), forked_worker.first_worker())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root directory")
def test_without_proc_there_is_no_child(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PROC, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert ("", "None None") == (done.stderr, done.stdout.strip())
