"""Logs: no credential in any of them, no exception's text, and no sink that can hold up a request."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from settlements import settlement

from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import logs
from edge_extproc.telemetry.logs import MASK, AccessLog, access_line, plain, redact, redacted

DONE = settlement(
    started_at=1_795_494_969.25,
    overhead=0.0031239,
    tenant="acme",
    key_id="ann",
    method="POST",
    path="/v1/chat/completions",
    model="gpt-4o",
    usage=Usage(input=10, output=5),
    cost=Decimal("0.00012500"),
)

# Made up, each in the shape of its kind.
CREDENTIALS = {
    "openai": "sk-proj-AbCdEf0123456789AbCdEf",
    "anthropic": "sk-ant-api03-AbCdEf_0123-456789",
    "ours": "edge-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA",
    "groq": "gsk_AbCdEf0123456789AbCd",
    "google": "AIza" + "Sy0123456789abcdefghijABCDEFGHIJ_-x",
    "google oauth": "ya29.a0AfB_byC0123456789abcdef",
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
}


# --- values


def test_a_very_long_text_is_cut_and_no_secret_in_half() -> None:
    assert len(redact("x" * 100_000)) < 20_000
    assert "sk-proj" not in redact("x" * 16_370 + " " + CREDENTIALS["openai"])


class Odd:
    def __str__(self) -> str:
        return f"Odd({CREDENTIALS['openai']})"


def test_every_kind_of_value_becomes_json_without_secrets() -> None:
    secret = CREDENTIALS["openai"]
    nested: object = secret
    for _ in range(10):
        nested = [nested]
    event = {
        "text": secret,
        "Authorization": "anything",
        "headers": {"x-api-key": "plain", secret: 1},
        "list": [secret, (secret,), {secret}],
        "bytes": b"abc",
        "number": 10**30,
        "small": -7,
        "yes": True,
        "none": None,
        "half": 0.5,
        "odd": Odd(),
        "error": ValueError(secret),
        "deep": nested,
    }

    clean = redacted(event)

    assert secret not in json.dumps(clean)
    assert isinstance(clean, dict)
    assert clean["Authorization"] == clean["headers"]["x-api-key"] == MASK
    assert clean["bytes"] == "<3 bytes>"
    assert clean["number"] == str(10**30)
    assert (clean["small"], clean["yes"], clean["none"], clean["half"]) == (-7, True, None, 0.5)
    assert clean["error"] == "ValueError"
    assert clean["odd"] == f"Odd({MASK})"


# --- events


@pytest.fixture
def quiet() -> Iterator[None]:
    """Puts logging back as it was: a set-up is for a whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def events(sink: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


@pytest.mark.usefixtures("quiet")
def test_an_event_is_one_json_line_with_time_and_level() -> None:
    sink = io.StringIO()
    logs.set_up("info", stream=sink)
    log = structlog.get_logger()
    log.info("started", port=10_000, key=CREDENTIALS["openai"])
    log.debug("not shown")

    (event,) = events(sink)
    assert event.pop("time").endswith("Z")
    assert event == {"event": "started", "level": "info", "port": 10_000, "key": MASK}


@pytest.mark.usefixtures("quiet")
def test_what_a_library_logs_goes_the_same_way() -> None:
    sink = io.StringIO()
    logs.set_up("info", stream=sink)
    logging.getLogger("grpc").warning("peer %s sent %s", "a", CREDENTIALS["anthropic"], extra={"port": 1})
    logging.getLogger("grpc").info("chatter")

    (event,) = events(sink)
    assert event.pop("time")
    assert event == {
        "event": f"peer a sent {MASK}",
        "level": "warning",
        "logger": "grpc",
        "port": 1,
    }


@pytest.mark.usefixtures("quiet")
def test_debug_shows_what_libraries_say_too() -> None:
    sink = io.StringIO()
    logs.set_up("debug", stream=sink)
    logging.getLogger("grpc").debug("chatter")

    assert [event["event"] for event in events(sink)] == ["chatter"]


@pytest.mark.usefixtures("quiet")
def test_a_warning_of_python_is_an_event() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old thing", DeprecationWarning, "x.py", 1)

    assert "old thing" in events(sink)[0]["event"]


@pytest.mark.usefixtures("quiet")
def test_setting_up_again_does_not_say_all_twice() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up(stream=first)
    logs.set_up(stream=second)
    logging.getLogger("x").error("once")

    assert events(first) == []
    assert len(events(second)) == 1


@pytest.mark.usefixtures("quiet")
def test_a_terminal_gets_text() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink, console=True)
    structlog.get_logger().warning("process_died", process="envoy", pid=7, by="\x1b[2J\n", at=None)

    line = sink.getvalue().partition("Z  ")[2]
    assert "warning  process_died  at=null  by=\\x1b[2J\\n  pid=7  process=envoy\n" == line


def fail(secret: str) -> None:
    try:
        {}[secret]
    except KeyError as exc:
        raise ValueError(f"with {secret}") from exc


def caught(secret: str) -> ValueError:
    with pytest.raises(ValueError, match="with") as info:
        fail(secret)
    return info.value


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("console", [True, False])
def test_a_bug_is_told_by_its_type_and_place_without_its_text(console: bool) -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink, console=console)
    logs.report(caught("the caller's words"))

    assert "the caller's words" not in sink.getvalue()
    assert "ValueError from KeyError" in sink.getvalue()
    assert "test_logs.py" in sink.getvalue()


@pytest.mark.usefixtures("quiet")
def test_a_librarys_exception_loses_its_text_as_well() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    error = caught("the caller's words")
    logging.getLogger("asyncio").error("lost", exc_info=error)
    try:
        fail("the caller's words")
    except ValueError:
        structlog.get_logger().exception("ours")
    structlog.get_logger().error("none", exc_info=True)

    lost, ours, none = events(sink)
    assert "the caller's words" not in sink.getvalue()
    assert lost["exception"] == "ValueError from KeyError"
    assert lost["frames"][-1].endswith(" fail")
    assert ours["exception"] == "ValueError from KeyError"
    assert "exception" not in none


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_an_event_loop_tells_of_is_told_without_its_text(new_loop: Callable[[], Any]) -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)

    async def main() -> None:
        async def failing() -> None:
            fail("the caller's words")

        loop = asyncio.get_running_loop()
        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        del task  # nobody has asked what it came to
        gc.collect()
        loop.call_soon(fail, "the caller's words")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    lost, callback = events(sink)
    assert "the caller's words" not in sink.getvalue()
    assert "Task exception was never retrieved" == lost["event"]
    assert lost["frames"][-1].endswith(" fail")
    assert callback["event"].startswith("Exception in callback")


@pytest.mark.usefixtures("quiet")
def test_a_library_that_puts_an_exception_into_its_words_tells_its_type() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    error = caught("the caller's words")
    logging.getLogger("httpx2").error("lost %s after %d s", error, 3)
    logging.getLogger("httpx2").error(error)

    assert ["lost ValueError after 3 s", "ValueError"] == [event["event"] for event in events(sink)]


@pytest.mark.usefixtures("quiet")
def test_a_line_that_cannot_be_made_prints_none_of_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    logging.getLogger("httpx2").error("%d", "the caller's words")

    (told,) = events(sink)
    assert ("line_not_written", "httpx2", "TypeError") == (told["event"], told["logger"], told["exception"])
    assert "the caller's words" not in sink.getvalue() + capsys.readouterr().err


@pytest.mark.usefixtures("quiet")
def test_what_nobody_catches_loses_its_text_too() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    logs.catch_all()
    thread = threading.Thread(target=fail, args=("the caller's words",))
    thread.start()
    thread.join()
    error = caught("the caller's words")
    sys.excepthook(type(error), error, error.__traceback__)

    assert [event["exception"] for event in events(sink)] == ["ValueError from KeyError"] * 2
    assert "the caller's words" not in sink.getvalue()


@pytest.mark.usefixtures("quiet")
def test_every_field_of_an_event_is_redacted() -> None:
    sink = io.StringIO()
    logs.set_up(stream=sink)
    logging.getLogger("httpx2").warning("POST to %s", "203.0.113.7", extra={"who": ["ann@example.com"]})
    structlog.get_logger().info("call +1 415 555 2671", card={"number": "4111 1111 1111 1111"})

    library, ours = events(sink)
    assert (library["event"], library["who"]) == ("POST to [ip]", ["[email]"])
    assert (ours["event"], ours["card"]) == ("call [phone]", {"number": "[card]"})


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one

    assert logs.describe(one)["exception"] == "ValueError from KeyError"


def test_a_context_is_told_unless_it_was_meant_to_be_hidden() -> None:
    error = ValueError()
    error.__context__ = KeyError()

    assert logs.describe(error)["exception"] == "ValueError from KeyError"
    error.__suppress_context__ = True
    assert logs.describe(error)["exception"] == "ValueError"


# --- access lines


def test_a_line_says_what_the_exchange_came_to() -> None:
    line = access_line(DONE)
    said = json.loads(line)

    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert list(said) == sorted(said)
    assert said["time"] == "2026-11-24T04:36:09.250Z"
    assert said["cost_usd"] == "0.000125"
    assert said["tokens_input"] == 10
    assert said["tokens_reasoning"] == 0
    assert said["ms"] == 2000.0
    assert said["overhead_ms"] == 3.124
    assert said["first_token_ms"] is None


def test_a_line_names_the_run_and_its_parent() -> None:
    said = json.loads(access_line(replace(DONE, run="task", run_parent="job 4111 1111 1111 1111")))

    assert ("task", "job [card]") == (said["run"], said["run_parent"])


def test_every_line_has_the_same_keys() -> None:
    empty = settlement(exchange_id="e", outcome="caller_left", status=None, started_at=0.0, duration=0.0, overhead=0.0)

    assert json.loads(access_line(empty)).keys() == json.loads(access_line(DONE)).keys()
    assert json.loads(access_line(empty))["tokens_input"] is None


@pytest.mark.parametrize(
    ("amount", "text"), [("0", "0"), ("100", "100"), ("1E+2", "100"), ("1E-9", "0.000000001"), ("2.50", "2.5")]
)
def test_money_is_written_without_exponents(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@given(st.text(st.characters(), max_size=600), st.integers())
def test_no_text_of_a_caller_or_provider_breaks_a_line(text: str, count: int) -> None:
    hostile = replace(
        DONE, path=text, request_id=text, code=text, upstream_model=text, dropped=(text,) * 40, usage=Usage(count)
    )
    line = access_line(hostile)

    assert line.count(b"\n") == 1
    assert len(json.loads(line)["dropped"]) == 32


def test_a_credential_in_a_path_is_taken_out_though_the_path_is_cut() -> None:
    secret = CREDENTIALS["openai"]
    line = access_line(replace(DONE, path="/" + "x" * 500 + "/" + secret, request_id=secret))

    assert secret[:8].encode() not in line


def test_of_a_very_long_path_little_is_looked_at_and_no_secret_is_cut_in_half() -> None:
    long = "x" * 60 + "@example.com/"
    line = access_line(replace(DONE, path=long * 27 + "/" * 63 + "bobby@example.com" + "%20" * 9000))

    assert b"[email]/[email]" in line
    assert b"bobby" not in line
    assert len(line) < 2000


def test_only_texts_without_secrets_are_known_by_a_later_line() -> None:
    logs._known_clean.clear()
    secret = replace(DONE, path="/v1/" + CREDENTIALS["openai"])
    lines = [access_line(each) for each in (DONE, secret, DONE, secret)]

    assert lines[:2] == lines[2:]
    assert CREDENTIALS["openai"].encode() not in lines[3]
    assert len(logs._known_clean) == 1
    assert not any(CREDENTIALS["openai"] in each for each in logs._known_clean)


def test_the_number_of_known_texts_is_bounded() -> None:
    logs._known_clean.clear()
    for number in range(logs._MOST_KNOWN + 1):
        access_line(replace(DONE, path=f"/v1/models/model-{number}"))
    access_line(replace(DONE, path="/" + "x" * 600))

    assert len(logs._known_clean) == 1


def test_fields_that_few_lines_have_are_sorted_in() -> None:
    said = json.loads(access_line(replace(DONE, cache="semantic", similarity=0.98765, booking="usage")))

    assert list(said) == sorted(said)
    assert (0.9877, "usage") == (said["similarity"], said["booking"])


# --- writing them


class Gate(io.BytesIO):
    """A sink that takes nothing until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.reached = threading.Event(), threading.Event()
        self.writes: list[bytes] = []

    def write(self, text: Any) -> int:
        self.reached.set()
        assert self.opened.wait(10)
        self.writes.append(bytes(text))
        return len(text)


def test_lines_come_out_in_order_in_whole_writes() -> None:
    sink = Gate()
    log = AccessLog(sink)
    for number in range(50):
        log.write(replace(DONE, exchange_id=str(number)))
    sink.opened.set()
    log.close()
    log.close()

    assert [json.loads(line)["exchange"] for line in b"".join(sink.writes).splitlines()] == [str(n) for n in range(50)]
    assert all(write.endswith(b"\n") and len(write) <= AccessLog.ATOMIC_WRITE for write in sink.writes)
    assert len(sink.writes) < 50


def test_a_sink_that_does_not_keep_up_loses_lines_and_not_time() -> None:
    sink, lost = Gate(), []
    log = AccessLog(sink, most_waiting=3, on_drop=lost.append)
    log.write(DONE)
    assert sink.reached.wait(10)
    for _ in range(10):
        log.write(DONE)
    sink.opened.set()
    log.close()

    assert sum(lost) == 7
    assert len(b"".join(sink.writes).splitlines()) == 4


class Broken(io.BytesIO):
    def write(self, text: Any) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("sink", [Broken(), io.BytesIO(b"closed")])
def test_a_sink_that_is_gone_loses_lines_and_nothing_else(sink: io.BytesIO) -> None:
    if not isinstance(sink, Broken):
        sink.close()
    lost: list[int] = []
    log = AccessLog(sink, on_drop=lost.append)
    log.write(DONE)
    log.close()

    assert sum(lost) == 1


def test_what_is_written_after_the_end_is_counted_as_lost() -> None:
    sink, lost = io.BytesIO(), []
    log = AccessLog(sink, on_drop=lost.append)
    log.close()
    log.write(DONE)

    assert sum(lost) == 1
    assert sink.getvalue() == b""


def test_nobody_has_to_listen_for_losses() -> None:
    log = AccessLog(io.BytesIO(), most_waiting=0)
    log.write(DONE)
    log.close()


def test_a_line_longer_than_an_atomic_write_is_alone() -> None:
    lines = [b"a" * 10 + b"\n", b"b" * 100 + b"\n", b"c\n", b"d\n"]

    assert list(logs._atomic_writes(lines, 20)) == [(1, lines[0]), (1, lines[1]), (2, lines[2] + lines[3])]
    assert list(logs._atomic_writes([], 20)) == []


def test_of_many_wrong_keys_in_a_second_some_have_a_line_and_the_rest_are_counted():
    sink, spared = io.BytesIO(), []
    log = AccessLog(sink, refused_per_second=2, on_spare=lambda: spared.append(1))
    wrong = replace(DONE, status=401, tenant=None, key_id=None)
    for at in (10.0, 10.1, 10.2, 10.9, 11.0):
        log.write(replace(wrong, started_at=at))
    # Who is known has a line, whatever becomes of it.
    log.write(replace(wrong, tenant="acme", started_at=10.95))
    log.close()

    assert (4, 2) == (sink.getvalue().count(b"\n"), len(spared))
