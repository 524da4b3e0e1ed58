"""The one command, as a user runs it: what it prints, what it serves, what it says when it cannot, what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import certificates
import gateway as gateways
import grpc
import httpx2 as httpx
import openai
import pydantic
import pytest
import yaml
from gateway import KEY, RunningGateway, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ports import free_port
from running_envoy import ask_admin

from edge_extproc.cli import app
from edge_extproc.config.default_models import default_providers, local_hosts
from edge_extproc.errors import exit_code

pytestmark = pytest.mark.envoy

# An empty variable of a local host switches it off.
NO_KEYS = {
    **{key: "" for each in default_providers() for key in each.default.keys},
    **{host.variable: "" for host in local_hosts()},
}


class Up(RunningGateway):
    """Without a config file: the embedded defaults, in an empty directory."""

    def __init__(self) -> None:
        super().__init__("", environment=NO_KEYS, forked=False)
        self.ports = (free_port(), free_port())
        self.path.unlink()

    @property
    def arguments(self) -> list[str]:
        return ["up", "--port", str(self.ports[0]), "--admin-port", str(self.ports[1])]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"


@pytest.fixture(scope="module")
def started_up():
    with Up() as found:
        yield found
    shutil.rmtree(found.directory, ignore_errors=True)


@pytest.fixture
def up(started_up):
    """Running: a test may stop or kill it."""
    if started_up.process.poll() is not None:
        again(started_up)
    return started_up


def again(running: RunningGateway) -> None:
    running.stop()
    running.lines.clear()
    running._ready.clear()
    running.start()


class Configured(RunningGateway):
    """With a configuration file and one worker."""

    def __init__(self, rehearsal_url: str) -> None:
        super().__init__(gateways.config(rehearsal_url))
        made = edge("key", str(self.path), cwd=self.directory)
        self.new_key = made.stdout.splitlines()[0].rpartition(" ")[2]
        row = made.stdout.splitlines()[1].partition(": ")[2].replace("NAME", "new")
        self.path.write_text(self.path.read_text().replace("keys: [{id: acme-1", f"keys: [{row}, {{id: acme-1"))


@pytest.fixture(scope="module")
def configured(rehearsal_url):
    with Configured(rehearsal_url) as found:
        yield found


@pytest.fixture(scope="module")
def secure(rehearsal_url):
    """With a certificate of its own, and two workers."""
    text = gateways.config(rehearsal_url, workers=2).replace("listen: {", "listen: {tls: {generate: true}, ")
    with RunningGateway(text) as found:
        yield found


@pytest.fixture
def directory():
    found = Path(tempfile.mkdtemp(prefix="edge-"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


def edge(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_extproc", *arguments],
        cwd=cwd,
        env={**os.environ, **NO_KEYS, **environment},
        capture_output=True,
        text=True,
        timeout=gateways.START_SECONDS,
        check=False,
    )


@pytest.fixture
def command(directory, monkeypatch, capsys):
    """Runs a command that ends by itself, in `directory` and in this process, which loads the modules once."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(directory)
        for name, value in NO_KEYS.items():
            monkeypatch.setenv(name, value)
        code = exit_code(lambda: app(arguments, result_action="return_value"))
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


def one_line(run: subprocess.CompletedProcess[str]) -> str:
    assert 1 == run.returncode, run.stdout + run.stderr
    (line,) = [each for each in run.stderr.splitlines() if each.startswith("edge-extproc: ")]
    return line


def config_in(directory: Path, **changes: str) -> Path:
    text = gateways.config("http://127.0.0.1:9")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = directory / "edge.yaml"
    path.write_text(text)
    return path


# --- what it says, and that it is true


def test_both_snippets_work_when_pasted(up):
    lines = [line for line in up.lines if not line.startswith("{")]
    curl = lines.index(next(line for line in lines if line.startswith("curl ")))
    pasted = subprocess.run(
        ["bash", "-c", "\n".join(lines[curl : curl + 3])], capture_output=True, text=True, check=True
    )
    assert "You asked: Hello" in pasted.stdout

    python = lines.index("from openai import OpenAI")
    pasted = subprocess.run(
        [sys.executable, "-c", "\n".join(lines[python : python + 4])], capture_output=True, text=True, check=True
    )
    assert "You asked: Hello" in pasted.stdout


def test_the_key_is_made_at_the_first_start_for_its_owner_alone(up):
    key = up.directory / ".edge" / "dev-key"

    assert 0o600 == stat.S_IMODE(key.stat().st_mode)
    assert key.read_text().strip() not in "\n".join(up.lines)
    assert any(str(key) in line for line in up.lines)


def test_every_part_is_healthy(up):
    assert {"worker 0", "rehearsal provider", "envoy"} == set(up.processes())
    ready = httpx.get(f"{up.admin}/readyz")
    assert (200, {"worker 0": "serving", "envoy": "serving"}) == (ready.status_code, ready.json()["parts"])


def test_envoy_writes_its_lines_each_second(up):
    found = json.loads(ask_admin(up.directory / ".edge" / "run" / "envoy-admin.sock", "/server_info"))

    assert "1s" == found["command_line_options"]["file_flush_interval"]


@pytest.mark.parametrize("model", ["chat", "gpt-5-mini", "claude-haiku-4-5"])
def test_the_responses_api_works_with_the_sdk(up, model):
    """As it came for the first two, translated to Anthropic's messages for the last."""
    key = (up.directory / ".edge" / "dev-key").read_text().strip()
    tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0) as client:
        whole = client.responses.create(model=model, input="Hello")
        events = list(client.responses.create(model=model, input="Hello", stream=True))
        called = client.responses.create(model=model, input="call get_weather", tools=[tool])
        parsed = client.responses.parse(model=model, input="How is it?", text_format=Weather)

    assert "You asked: Hello" in whole.output_text
    assert ("response.created", "response.completed") == (events[0].type, events[-1].type)
    assert whole.output_text == "".join(each.delta for each in events if each.type == "response.output_text.delta")
    assert ["get_weather"] == [item.name for item in called.output if item.type == "function_call"]
    assert Weather(city="city") == parsed.output_parsed


def test_a_conversation_continues_by_the_id_of_its_last_reply(up):
    key = (up.directory / ".edge" / "dev-key").read_text().strip()
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0) as client:
        first = client.responses.create(model="chat", input="My name is Ada.")
        second = client.responses.create(model="chat", input="And now?", previous_response_id=first.id)

    assert "3 messages" in second.output_text


def test_the_models_are_listed_and_embedded(up):
    key = (up.directory / ".edge" / "dev-key").read_text().strip()
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0) as client:
        listed = {model.id for model in client.models.list()}
        made = client.embeddings.create(model="embedding", input="Hello")

    assert {"chat", "embedding", "rehearsal"} <= listed
    assert 256 == len(made.data[0].embedding)


def test_every_other_api_is_answered_too(up):
    key = (up.directory / ".edge" / "dev-key").read_text().strip()
    chat = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    sound = {"file": ("a.wav", b"RIFF"), "model": (None, "chat")}
    gemini = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    converse = {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
    asked = {
        "/v1/completions": {"json": {"model": "chat", "prompt": "Hello"}},
        "/v1/images/generations": {"json": {"model": "chat", "prompt": "A door"}},
        "/v1/images/edits": {"files": {"image": ("a.png", b"x"), "model": (None, "chat")}},
        "/v1/audio/speech": {"json": {"model": "chat", "input": "Hello", "voice": "alloy"}},
        "/v1/audio/transcriptions": {"files": sound},
        "/v1/audio/translations": {"files": sound},
        "/v1/moderations": {"json": {"model": "chat", "input": "Hello"}},
        "/v1/rerank": {"json": {"model": "chat", "query": "a", "documents": ["a", "b"]}},
        "/v1/messages": {"json": {**chat, "max_tokens": 9}},
        "/v1/messages/count_tokens": {"json": {**chat, "model": "claude-haiku-4-5"}},
        "/v1beta/models/chat:generateContent": {"json": gemini},
        "/v1beta/models/chat:countTokens": {"json": gemini},
        "/v1beta/models/embedding:embedContent": {"json": {"content": {"parts": [{"text": "Hello"}]}}},
        "/model/chat/converse": {"json": converse},
    }
    with httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
        answers = {path: http.post(path, **body) for path, body in asked.items()}

    assert {} == {path: answer.text for path, answer in answers.items() if answer.status_code != 200}


class Weather(pydantic.BaseModel):
    city: str


# --- how it stops


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_nothing_is_left_but_what_it_starts_again_with(up, number):
    processes = up.processes()
    key = (up.directory / ".edge" / "dev-key").read_text()
    up.process.send_signal(number)

    assert 0 == up.process.wait(30)
    for pid in processes.values():
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    assert [] == list((up.directory / ".edge").rglob("*.sock"))
    for port in up.ports:
        with socket.socket() as sock:
            assert 0 != sock.connect_ex(("127.0.0.1", port))
    again(up)
    assert key == (up.directory / ".edge" / "dev-key").read_text()


@pytest.mark.parametrize(("grace", "whole"), [("20s", True), ("1s", False)])
def test_what_is_under_way_at_a_stop_has_the_grace_to_end(rehearsal_url, grace, whole):
    config = gateways.config(rehearsal_url).replace("shutdown_grace: 2s", f"shutdown_grace: {grace}")
    seconds = "0.1s" if whole else "30s"
    asked = {
        "model": f"rehearsal(pace={seconds},tokens=10)",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    }
    said = b""
    with RunningGateway(config) as running:
        with (
            contextlib.suppress(httpx.RemoteProtocolError),
            httpx.stream(
                "POST", f"{running.url}/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}"}
            ) as answer,
        ):
            for part in answer.iter_bytes():
                if not said:
                    running.process.send_signal(signal.SIGTERM)
                said += part
        assert 0 == running.process.wait(30)

    assert whole == said.endswith(b"data: [DONE]\n\n")


def test_killed_without_mercy_it_takes_its_parts_along_and_leaves_no_lock(up):
    processes = up.processes()
    up.process.kill()
    up.process.wait(10)
    for pid in processes.values():
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    again(up)

    assert 200 == httpx.get(f"{up.admin}/readyz").status_code


def test_a_signal_during_the_start_stops_it_too(directory):
    arguments = ["up", "--port", str(free_port()), "--admin-port", str(free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_extproc", *arguments], cwd=directory, env={**os.environ, **NO_KEYS}
    )
    until((directory / ".edge" / "dev-key").exists)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) in {130, -signal.SIGTERM}
    until(lambda: [] == list((directory / ".edge").rglob("*.sock")))


# --- when parts die


def _ok_requests(running: RunningGateway) -> float:
    lines = [line for line in running.metrics().splitlines() if line.startswith("edge_requests_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if '"ok"' in line)


def test_a_worker_that_dies_is_replaced_and_nothing_is_counted_twice(configured):
    def lines() -> int:
        return len([line for line in configured.access_lines() if line["outcome"] == "ok"])

    asked = {"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]}
    printed = len(configured.lines)
    configured.all_settled()  # lines of other tests' requests may still be on their way
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, base_url=configured.url) as client:
        before = lines()
        client.post("/v1/chat/completions", json=asked).raise_for_status()
        assert "edge_open_requests 0.0" in configured.metrics()
        # What the supervisor has not read of a killed worker is not counted (docs/adr/194).
        until(lambda: before + 1 == lines() == _ok_requests(configured))
        worker = configured.child("worker", "--index", "0")
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        told = client.post("/v1/chat/completions", json=asked)
        assert told.status_code in {200, 503}
        if told.status_code == 503:
            assert told.json()["error"]["message"]

        def answers() -> bool:
            return client.post("/v1/chat/completions", json=asked).status_code == 200

        until(answers)

    until(lambda: before + 2 <= lines() == _ok_requests(configured))
    (died,) = [json.loads(line) for line in configured.lines[printed:] if '"process_died"' in line]
    assert ("worker 0", "SIGKILL") == (died["process"], died["by"])


def test_a_worker_that_hangs_is_not_counted_as_one(secure):
    assert "edge_workers 2.0" in secure.metrics()
    hanging = secure.processes()["worker 1"]
    os.kill(hanging, signal.SIGSTOP)
    try:
        assert "edge_workers 1.0" in secure.metrics()
    finally:
        os.kill(hanging, signal.SIGCONT)
    until(lambda: "edge_workers 2.0" in secure.metrics())


def status_of_a_call(running: RunningGateway) -> int | None:
    """None where nobody answers."""
    asked = {"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]}
    try:
        with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
            return client.post("/v1/chat/completions", json=asked).status_code
    except httpx.TransportError:
        return None


def test_an_envoy_that_dies_is_restarted_and_without_one_it_ends_and_says_so(rehearsal_url):
    with RunningGateway(gateways.config(rehearsal_url)) as running:
        first = running.processes()["envoy"]
        assert 200 == status_of_a_call(running)
        os.kill(first, signal.SIGKILL)
        until(lambda: running.child("--disable-hot-restart") not in (None, first), 30)
        until(lambda: status_of_a_call(running) == 200, 60)
        assert "edge_worker_restarts_total 0.0" in running.metrics()
        (died,) = [json.loads(line) for line in running.lines if '"process_died"' in line]
        assert ("envoy", "SIGKILL") == (died["process"], died["by"])
        assert running.process.poll() is None

        def has_ended() -> bool:
            envoy = running.child("--disable-hot-restart")
            if envoy is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(envoy, signal.SIGKILL)
            return running.process.poll() is not None

        until(has_ended, 90)
        assert 1 == running.process.wait(30)
    assert any("envoy died with exit code -9" in line for line in running.lines)


# --- mistakes: one clear line each


@pytest.mark.parametrize("setting", ["listen", "admin"])
def test_a_port_that_is_taken(directory, setting):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flag = "--port" if setting == "listen" else "--admin-port"
        other = "--admin-port" if setting == "listen" else "--port"
        run = edge("up", flag, str(port), other, str(free_port()), cwd=directory)

    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with {flag}" in one_line(run)


@pytest.mark.parametrize("section", ["listen", "admin"])
def test_a_taken_port_of_a_file_is_changed_in_that_file(section, directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = config_in(directory)
        lines = [
            f"{section}: {{port: {port}}}" if each.startswith(section) else each
            for each in path.read_text().split("\n")
        ]
        path.write_text("\n".join(lines))
        run = edge("up", "--config", str(path), cwd=directory)

    told = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with {section}.port in {path}"
    assert told in one_line(run)


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [
        ("--port", "1234", "listen.port"),
        ("--admin-port", "10001", "admin.port"),
        ("--state-dir", "x", "agent.state_dir"),
    ],
)
@pytest.mark.parametrize("verb", ["up", "serve", "render"])
def test_what_a_file_says_is_not_said_beside_it(verb, option, value, key, directory, command):
    path = config_in(directory)
    run = command(verb, "--config", str(path), option, value)

    told = f"{option} {value} cannot be used with --config; set {key} in {path} instead"
    assert told in one_line(run)


def test_a_workers_port_that_is_taken(directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = config_in(directory, **{"agent: {": f"agent: {{tcp: {{address: 127.0.0.1, port: {port}}}, "})
        run = edge("serve", "--config", str(path), cwd=directory)

    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with agent.tcp.port" in one_line(
        run
    )


def test_a_state_directory_that_cannot_be_made(directory, command):
    (directory / "file").touch()
    run = command("up", "--state-dir", "file/below")

    assert "cannot store state in file/below: Not a directory; choose another --state-dir" in one_line(run)


def test_a_bootstrap_that_cannot_be_written(directory, command):
    run = command("render", "--config", str(config_in(directory)), "--output", "nowhere/envoy.json")

    assert "cannot write nowhere/envoy.json: No such file or directory" in one_line(run)


def test_an_envoyfilter_is_written_for_istio(directory, command):
    path = config_in(directory, **{"agent: {": "agent: {tcp: {hosts: [agents.example], allow_plaintext: true}, "})
    run = command(
        *("render", "--config", str(path), "--target", "istio-gateway", "--namespace", "edge"),
        *("--workload", "app=gateway", "--listener-port", "443", "--route", "models", "--istio", "1.30"),
    )

    assert 0 == run.returncode, run.stderr
    assert 'the agent plans for Envoy 1.40; give it envoy: {istio: "1.30"}' in run.stderr
    assert "the proxy of Istio 1.30: a slow call cannot be hedged with a second provider" in run.stderr
    (found,) = yaml.safe_load_all(run.stdout)
    assert ("EnvoyFilter", "edge") == (found["kind"], found["metadata"]["namespace"])
    assert {"app": "gateway"} == found["spec"]["workloadSelector"]["labels"]
    assert "sk-provider" not in run.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "envoy.istio is missing"),
        (("--istio", "1.28"), "envoy.istio: '1.28' cannot be rendered for; have 1.29, 1.30, 1.31, 1.32"),
        (("--envoy-version", "1.38"), "--envoy-version: the Envoy of an Istio is Istio's own; give --istio"),
    ],
)
def test_an_istio_that_is_not_known_is_not_rendered_for(directory, arguments, told, command):
    path = config_in(directory)
    run = command("render", "--config", str(path), "--target", "istio-sidecar", *arguments)

    assert told in one_line(run)


def test_a_workload_is_a_label(directory, command):
    path = config_in(directory)
    run = command("render", "--config", str(path), "--target", "istio-sidecar", "--workload", "gateway")

    assert "--workload: 'gateway' is not a label; write NAME=VALUE" in one_line(run)


def test_a_bad_config(directory, command):
    path = config_in(directory, **{"kind: openai": "kind: opnai"})

    assert f"{path}:10:" in one_line(command("up", "--config", str(path)))
    assert "opnai" in one_line(command("check", str(path)))


def test_a_config_that_is_not_there(command):
    assert "nowhere.yaml: cannot be read: No such file" in one_line(command("serve", "-c", "nowhere.yaml"))


def test_an_envoy_that_dies_at_once(directory):
    arguments = "up", "--port", str(free_port()), "--admin-port", str(free_port())
    run = edge(*arguments, cwd=directory, EDGE_ENVOY=shutil.which("false") or "/bin/false")

    assert "envoy died with exit code 1" in one_line(run)
    assert [] == list((directory / ".edge").rglob("*.sock"))


def test_an_envoy_that_is_not_there(directory):
    arguments = "up", "--port", str(free_port()), "--admin-port", str(free_port())

    assert "EDGE_ENVOY" in one_line(edge(*arguments, cwd=directory, EDGE_ENVOY="/nowhere/envoy"))


# --- the other verbs


def test_check_asks_envoy_too(directory):
    run = edge("check", str(config_in(directory)), cwd=directory)

    assert (0, True) == (run.returncode, "valid, and Envoy accepts the configuration" in run.stdout)


def test_render_writes_what_envoy_takes(directory, command):
    path = directory / "envoy.json"
    run = command("render", "--config", str(config_in(directory)), "--output", str(path))

    assert 0 == run.returncode, run.stderr
    assert '"static_resources"' in path.read_text()
    assert "sk-provider" not in path.read_text()


def test_a_new_key_opens_the_door(configured):
    reply = httpx.get(f"{configured.url}/v1/models", headers={"authorization": f"Bearer {configured.new_key}"})

    assert 200 == reply.status_code


def test_tls_with_a_certificate_of_our_own(secure):
    (ca,) = secure.directory.glob(".edge/tls/ca.pem")
    trust = ssl.create_default_context(cafile=str(ca))
    for http2 in (False, True):
        with httpx.Client(verify=trust, http2=http2, base_url=secure.url.replace("http:", "https:")) as client:
            reply = client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})
            assert (200, "HTTP/2" if http2 else "HTTP/1.1") == (reply.status_code, reply.http_version)


def test_workers_over_a_network_serve_envoy_and_nobody_without_a_certificate(directory, rehearsal_url):
    pems = certificates.mutual(directory, "agents.example")
    port = free_port()
    tls = f"ca: {pems.ca}, certificate: {pems.certificate}, private_key: {pems.private_key}"
    tcp = f"{{address: 127.0.0.1, port: {port}, tls: {{{tls}, server_name: agents.example}}}}"
    text = gateways.config(rehearsal_url).replace("agent: {", f"agent: {{tcp: {tcp}, ")
    with RunningGateway(text) as running:
        asked = {"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]}
        reply = httpx.post(f"{running.url}/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}"})
        assert (200, 200) == (reply.status_code, httpx.get(f"{running.admin}/readyz").status_code)
        assert "edge_requests_total" in running.metrics()

        ca_alone = grpc.ssl_channel_credentials(pems.ca.read_bytes())
        name = (("grpc.ssl_target_name_override", "agents.example"),)
        for stranger in (
            grpc.insecure_channel(f"127.0.0.1:{port}"),
            grpc.secure_channel(f"127.0.0.1:{port}", ca_alone, name),
        ):
            with stranger, pytest.raises(grpc.RpcError) as refused:
                health_pb2_grpc.HealthStub(stranger).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert grpc.StatusCode.UNAVAILABLE == refused.value.code()


# --- one owner of a state directory


def test_a_second_gateway_in_one_directory_is_refused_and_the_first_serves_on(up):
    before = up.processes()
    second = edge("up", "--port", str(free_port()), "--admin-port", str(free_port()), cwd=up.directory)
    beside = edge("serve", "--port", str(free_port()), "--admin-port", str(free_port()), cwd=up.directory)

    for line in (one_line(second), one_line(beside)):
        assert f"{(up.directory / '.edge').resolve()} is in use by another gateway: process {up.process.pid}, " in line
        assert f"as `up`, listening on 127.0.0.1:{up.ports[0]}; stop it, or choose another directory with" in line
    key = (up.directory / ".edge" / "dev-key").read_text().strip()
    asked = {"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]}
    for _ in range(3):  # a connection of its own for each
        reply = httpx.post(f"{up.url}/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {key}"})
        assert 200 == reply.status_code
    assert before == up.processes()
    assert 200 == httpx.get(f"{up.admin}/readyz").status_code


def test_two_configurations_with_one_directory_for_sockets_are_two_gateways_in_one_place(configured, directory):
    sockets = configured.directory / ".edge" / "run"
    path = config_in(directory, **{"agent: {": f"agent: {{sockets: {sockets}, "})
    run = edge("up", "--config", str(path), cwd=directory)

    assert f"{sockets.resolve()} is in use by another gateway: process {configured.process.pid}, " in one_line(run)
    assert f"as `up --config {configured.path}`, listening on " in one_line(run)
    assert 200 == httpx.get(f"{configured.admin}/readyz").status_code
