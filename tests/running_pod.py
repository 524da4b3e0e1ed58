"""The pod of a rendered Deployment as processes on this machine: its init containers, and then its containers, with
their arguments, variables, volumes and probes. Nothing of Kubernetes runs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import gateway as gateways
from running_envoy import envoy_binary

PATIENCE = gateways.START_SECONDS
STOP_SECONDS = 30


class RunningPod:
    """`secrets`: by name of a Secret, its variables. `directory` needs a short path, because sockets are in it."""

    def __init__(
        self,
        documents: list[dict[str, Any]],
        deployment: str,
        directory: Path,
        secrets: dict[str, dict[str, str]],
    ) -> None:
        self._documents = documents
        self._secrets = secrets
        spec = self._named("Deployment", deployment)["spec"]["template"]["spec"]
        self.spec: dict[str, Any] = spec
        self._directory = directory
        self._volumes = {volume["name"]: self._volume(volume) for volume in spec["volumes"]}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> RunningPod:
        try:
            for container in self.spec["initContainers"]:
                assert 0 == self._start(container).wait(PATIENCE), self.log(container["name"])
            for container in self.spec["containers"]:
                self._processes[container["name"]] = self._start(container)
            gateways.until(self._is_ready, PATIENCE)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> dict[str, int]:
        """The exit codes."""
        for process in self._processes.values():
            process.terminate()
        codes = {}
        for name, process in self._processes.items():
            try:
                codes[name] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self._processes.clear()
        return codes

    def log(self, container: str) -> str:
        return (self._directory / f"{container}.log").read_text(errors="replace")[-4000:]

    def path(self, container: str, inside: str) -> Path:
        """Where a path of a container is on this machine."""
        (found,) = [each for each in self._containers() if each["name"] == container]
        return Path(self._outside(inside, found))

    def _containers(self) -> list[dict[str, Any]]:
        return [*self.spec["initContainers"], *self.spec["containers"]]

    def _named(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [each for each in self._documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    def _volume(self, volume: dict[str, Any]) -> Path:
        path = self._directory / volume["name"]
        path.mkdir(mode=0o700)
        if "configMap" in volume:
            for name, text in self._named("ConfigMap", volume["configMap"]["name"])["data"].items():
                # A test listens on loopback alone.
                here = self._outside(text, *self._containers()).replace("0.0.0.0", "127.0.0.1")
                (path / name).write_text(here)
        return path

    def _outside(self, text: str, *containers: dict[str, Any]) -> str:
        """With the directories of volumes for the paths where containers mount them."""
        mounts = {mount["mountPath"]: mount["name"] for each in containers for mount in each["volumeMounts"]}
        paths = "|".join(map(re.escape, sorted(mounts, reverse=True)))
        return re.sub(rf"(?<![\w/.-])({paths})(?![\w.-])", lambda at: str(self._directory / mounts[at[1]]), text)

    def _start(self, container: dict[str, Any]) -> subprocess.Popen[bytes]:
        # The image of the agent has an entry point, and the image of Envoy has none of ours.
        argv = container.get("command", ["edge-extproc"]) + container.get("args", [])
        program = {"edge-extproc": [sys.executable, "-m", "edge_extproc"], "envoy": [envoy_binary()]}[argv[0]]
        variables = {each["name"]: each["value"] for each in container.get("env", ())}
        for each in container.get("envFrom", ()):
            variables |= self._secrets[each["secretRef"]["name"]]
        with (self._directory / f"{container['name']}.log").open("wb") as log:
            return subprocess.Popen(
                [*program, *(self._outside(word, container) for word in argv[1:])],
                cwd=self._directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory), **variables},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _is_ready(self) -> bool:
        for container in self.spec["containers"]:
            name = container["name"]
            assert self._processes[name].poll() is None, self.log(name)
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container and not _answers(container[probe]["httpGet"], ports):
                    return False
        return True


def _answers(probe: dict[str, Any], ports: dict[str, int]) -> bool:
    with contextlib.suppress(URLError, ConnectionError):
        with urlopen(f"http://127.0.0.1:{ports[probe['port']]}{probe['path']}") as answer:
            return bool(answer.status == 200)
    return False
