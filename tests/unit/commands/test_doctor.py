"""`edge-extproc doctor`: each thing that prevents a start, or that will fail later, is one line."""

from __future__ import annotations

import os
import resource
import socket
import stat
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

import pytest
from ports import free_port
from replaying import replaying

from edge_extproc.cli import app
from edge_extproc.commands.doctor import Diagnosis, diagnose
from edge_extproc.config.default_models import default_providers, local_hosts
from edge_extproc.errors import exit_code
from edge_extproc.gateway.state_owner import owned, owner

NOTHING = {
    **{host.variable: "" for host in local_hosts()},
    **{key: "" for each in default_providers() for key in each.default.keys},
}


def config(directory: Path, more: str = "", provider: str = "kind: openai, api_key: sk-of-the-tests") -> Path:
    path = directory / "edge.yaml"
    path.write_text(
        f"listen: {{port: {free_port()}}}\nadmin: {{port: {free_port()}}}\n"
        f"agent: {{state_dir: state}}\nauth: {{pepper: a pepper of the tests}}\n"
        f"callers: [{{tenant: a, keys: [{{id: k, key: edge-key-of-the-tests}}]}}]\n{more}\n"
        f"providers: {{p: {{{provider}}}}}\nmodels: {{m: [{{provider: p}}]}}\n"
    )
    return path


async def found(path: Path | None, environ: Mapping[str, str] = NOTHING, *, online: bool = False) -> list[Diagnosis]:
    return [each async for each in diagnose(path, None, {**NOTHING, **environ}, online=online)]


def texts(diagnoses: list[Diagnosis], subject: str) -> list[tuple[str, str]]:
    return [(each.state, each.text) for each in diagnoses if each.subject == subject]


async def test_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    path = config(tmp_path, "limits: {connections: 1}")
    diagnoses = await found(path)

    assert {"ok"} == {each.state for each in diagnoses}, diagnoses
    subjects = ["edge-extproc", "machine", "config", "envoy", "state", "port", "port", "open files", "keys"]
    assert subjects == [each.subject for each in diagnoses]
    assert [path.name] == os.listdir(tmp_path)


async def test_a_mistake_in_the_configuration_has_its_line(tmp_path: Path) -> None:
    ((state, text),) = texts(await found(config(tmp_path, "lisen: {}")), "config")

    assert "fail" == state
    assert "edge.yaml:6:1: lisen: there is no such key" in text


async def test_a_port_that_another_program_has_is_named_with_its_key(tmp_path: Path) -> None:
    path = config(tmp_path)
    port = int(path.read_text().partition("port: ")[2].partition("}")[0])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        taken = texts(await found(path), "port")
        # A gateway that runs has its ports.
        with owned([tmp_path / "state"], owner("up", f"127.0.0.1:{port}", 0.0)):
            own = await found(path)

    assert ["fail", "ok"] == [state for state, _ in taken]
    assert "listen.port" in taken[0][1]
    assert ["ok", "ok"] == [state for state, _ in texts(own, "port")]
    assert f"process {os.getpid()}" in texts(own, "state")[0][1]


async def test_a_secret_that_others_can_read_is_named(tmp_path: Path) -> None:
    path = config(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "pepper").write_text("open")
    (tmp_path / "state" / "pepper").chmod(0o644)
    (tmp_path / "state" / "dev-key").write_text("closed")
    (tmp_path / "state" / "dev-key").chmod(stat.S_IRUSR)
    warned = [text for state, text in texts(await found(path), "state") if state == "warn"]

    assert 1 == len(warned)
    assert warned[0].endswith(f"chmod 600 {tmp_path}/state/pepper")


async def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    path = config(tmp_path)
    (tmp_path / "state").write_text("a file")
    ((state, text),) = texts(await found(path), "state")

    assert ("fail", True) == (state, "choose another agent.state_dir" in text)


async def test_too_few_open_files_are_told_with_the_remedy(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    ((state, text),) = texts(await found(config(tmp_path, f"limits: {{connections: {soft}}}")), "open files")

    assert "warn" == state
    assert f"ulimit -n {2 * soft + 500}" in text


async def test_an_envoy_of_another_version_and_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = texts(await found(config(tmp_path, 'envoy: {version: "1.36"}')), "envoy")
    monkeypatch.setenv("EDGE_ENVOY", "/no/envoy")
    none = texts(await found(config(tmp_path)), "envoy")

    assert "warn" == older[0][0]
    assert "set envoy.version" in older[0][1]
    assert [("fail", "EDGE_ENVOY: '/no/envoy' is not a program; give the path of an Envoy binary")] == none


async def test_keys_that_cannot_work_are_named(tmp_path: Path) -> None:
    path = config(tmp_path, provider="kind: openai, api_key: edge-a-key-of-the-gateway")
    path.write_text(
        path.read_text().replace("key: edge-key-of-the-tests", "key: edge-key-of-the-tests, expires: 2020-01-01")
    )
    keys = texts(await found(path), "keys")

    assert ("warn", "k of a expired on 2020-01-01") in keys
    assert ("fail", "the api_key of p is a key of this gateway, not of the provider") in keys


@pytest.mark.parametrize(
    ("status", "state", "told"),
    [
        (200, "ok", "and accepts the key"),
        (401, "fail", "p refuses its key (401)"),
        (403, "fail", "p refuses its key (403)"),
        (404, "ok", "it has no list of models to try the key with"),
        (503, "warn", "p answers with status 503"),
    ],
)
async def test_a_providers_key_is_tried_without_a_cost(status: int, state: str, told: str, tmp_path: Path) -> None:
    with replaying() as provider:
        provider.answers(b"{}", status=status)
        path = config(tmp_path, provider=f"kind: openai, base_url: '{provider.url}/v1', api_key: sk-of-the-tests")
        diagnoses = await found(path, online=True)
    ((seen, text),) = texts(diagnoses, "provider")
    (asked,) = provider.asked

    assert state == seen
    assert told in text
    assert ("GET", "/v1/models", "Bearer sk-of-the-tests") == (
        asked.method,
        asked.path,
        asked.headers["authorization"],
    )
    assert "sk-of-the-tests" not in "".join(each.line() for each in diagnoses)
    assert "ok" == texts(diagnoses, "clock")[0][0]


@pytest.mark.parametrize(("ahead", "state"), [(0, "ok"), (60, "warn"), (-3600, "fail")])
async def test_the_clock_is_compared_with_the_providers(ahead: int, state: str, tmp_path: Path) -> None:
    with replaying() as provider:
        provider.answers(headers={"date": formatdate(time.time() - ahead, usegmt=True)})
        path = config(tmp_path, provider=f"kind: openai, base_url: '{provider.url}/v1', api_key: sk-1")
        ((seen, text),) = texts(await found(path, online=True), "clock")

    assert state == seen
    assert (ahead == 0) == ("signatures" not in text)


async def test_what_cannot_be_reached_says_why(tmp_path: Path) -> None:
    port = free_port()
    path = config(
        tmp_path,
        f"limiter: {{url: 'redis://:a-password@127.0.0.1:{port}/0'}}\ncache: {{redis: {{url: 'redis://127.0.0.1:{port}/0'}}}}",
        f"kind: openai_compatible, base_url: 'http://127.0.0.1:{port}/v1'",
    ).with_name("edge.yaml")
    path.write_text(path.read_text().replace("tenant: a,", "tenant: a, limits: {concurrent: 1},"))
    diagnoses = await found(path, {"HTTPS_PROXY": "http://proxy.example"}, online=True)

    assert [("fail", "connection refused")] == texts(diagnoses, "cache store")
    assert ["fail"] == [state for state, _ in texts(diagnoses, "limit store")]
    assert [("fail", f"p at 127.0.0.1:{port}: connection refused")] == texts(diagnoses, "provider")
    assert "Envoy does not use it" in texts(diagnoses, "network")[0][1]
    assert "a-password" not in "".join(each.line() for each in diagnoses)


async def test_the_databases_first_start_is_no_fault(tmp_path: Path) -> None:
    assert [("ok", "will be made at the first start")] == texts(
        await found(config(tmp_path, "store: {}"), online=True), "database"
    )
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "edge.db").write_text("not a database, and longer than its header" * 9)
    assert ["fail"] == [state for state, _ in texts(await found(tmp_path / "edge.yaml", online=True), "database")]


async def test_without_a_configuration_the_defaults_are_examined_and_no_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    diagnoses = await found(None, online=True)

    assert [("ok", "no key is set: the rehearsal provider will answer")] == texts(diagnoses, "provider")
    assert [] == os.listdir(tmp_path)


def test_the_exit_code_tells_whether_a_check_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("doctor", "--offline", "--config", str(config(tmp_path)))
    assert 0 == exit_code(lambda: app(run, result_action="return_value"))
    config(tmp_path, "lisen: {}")
    assert 1 == exit_code(lambda: app(run, result_action="return_value"))
    assert "1 of these checks failed" in capsys.readouterr().err
