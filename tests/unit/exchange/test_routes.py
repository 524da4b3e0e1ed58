"""Which dialect is spoken at a path, and which operation is meant."""

from __future__ import annotations

import contextlib
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.dialects.base import Dialect, Route
from edge_extproc.errors import NoSuchRoute, WrongMethod
from edge_extproc.exchange.path_router import PathRouter as Routes


def speaking(*routes: Route, client_headers: tuple[str, ...] = ()) -> Dialect:
    """As much of a dialect as the table of paths looks at."""
    return cast(Dialect, SimpleNamespace(routes=routes, client_headers=client_headers))


CHAT = Route("POST", "/v1/chat/completions", "chat")
LIST = Route("GET", "/v1/models", "models")
ONE = Route("GET", "/v1/models/{model}", "opaque")
GENERATE = Route("POST", "/v1/models/{model}:generateContent", "chat")
STREAM = Route("POST", "/v1/models/{model}:streamGenerateContent", "chat")
VERTEX = Route("POST", "/v1/projects/{project}/models/{model}:generateContent", "chat")

OPENAI = speaking(CHAT, LIST, ONE)
GEMINI = speaking(GENERATE, STREAM, VERTEX, client_headers=("x-goog-api-client", "x-goog-api-key"))
ANTHROPIC = speaking(
    Route("POST", "/v1/messages", "chat"),
    Route("POST", "/v1/messages/count_tokens", "count_tokens"),
    client_headers=("anthropic-version",),
)


@pytest.fixture(scope="module")
def routes() -> Routes:
    return Routes({"openai_chat": OPENAI, "gemini_generate": GEMINI, "anthropic_messages": ANTHROPIC})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", (OPENAI, CHAT)),
        ("GET", "/v1/models", (OPENAI, LIST)),
        ("HEAD", "/v1/models", (OPENAI, LIST)),
        ("GET", "/v1/models/gpt-4o", (OPENAI, ONE)),
        ("GET", "/v1/models/ft:gpt-4o:us", (OPENAI, ONE)),
        ("POST", "/v1/models/gemini-2.5-flash:generateContent", (GEMINI, GENERATE)),
        ("POST", "/v1/models/gemini-2.5-flash:streamGenerateContent", (GEMINI, STREAM)),
        ("POST", "/v1/models/ft:one%2Ftwo:generateContent", (GEMINI, GENERATE)),
        ("POST", "/v1/projects/p-1/models/m:generateContent", (GEMINI, VERTEX)),
    ],
)
def test_a_path_leads_to_its_dialect_and_route(routes: Routes, method: str, path: str, expected: Any) -> None:
    found = routes.match(method, path)

    assert found == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "/v1/models/",
        "/v1/models/a/b",
        "/v1/models/a/b:generateContent",
        "/v1/projects//models/m:generateContent",
        "/v1/projects/p/models/:generateContent",
        "/v1/projects/p/models/m",
        "/v1/projects/p/models/m:embedContent",
    ],
)
def test_a_path_that_no_template_fits_is_unknown(routes: Routes, path: str) -> None:
    with pytest.raises(NoSuchRoute, match=re.escape(f"no API at {path!r}; ")):
        routes.match("POST", path)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/api/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/api/models/m:generateContent", "/v1/models/m:generateContent"),
        ("/v1/chat/completion", "/v1/chat/completions"),
    ],
)
def test_the_path_that_a_wrong_base_url_meant_is_suggested(routes: Routes, path: str, meant: str) -> None:
    with pytest.raises(NoSuchRoute, match=re.escape(f"no API at {path!r}; did you mean {meant!r}?")) as told:
        routes.match("POST", path)

    assert len(told.value.message) < 200, "the paths that were not meant are not listed"


@pytest.mark.parametrize("path", ["/", "/elsewhere", "/v1/models/a/b", "/v1" * 70 + "/chat/completions"])
def test_nothing_is_suggested_for_a_path_like_no_other(routes: Routes, path: str) -> None:
    with pytest.raises(NoSuchRoute, match=re.escape(f"no API at {path!r}; have ")):
        routes.match("POST", path)


def test_a_templated_path_says_which_methods_it_has(routes: Routes) -> None:
    with pytest.raises(WrongMethod, match="use POST"):
        routes.match("GET", "/v1/models/m:generateContent")


def test_an_error_is_told_in_the_words_of_the_path(routes: Routes) -> None:
    assert routes.caller_dialect("/v1/models/m:generateContent", ()) is GEMINI
    assert routes.caller_dialect("/v1/models/m", ()) is OPENAI
    assert routes.caller_dialect("/v1/messages/batches", ()) is ANTHROPIC
    assert routes.caller_dialect("/elsewhere", ()) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [("anthropic-version", ANTHROPIC), ("x-goog-api-key", GEMINI), ("x-goog-api-client", GEMINI)],
)
def test_a_header_of_one_dialects_clients_tells_who_is_calling(routes: Routes, header: str, expected: Dialect) -> None:
    voice = routes.caller_dialect("/v1/models", ("accept", header))

    assert voice is expected


@given(st.text(alphabet="a:/{}%.", max_size=30))
def test_no_path_breaks_the_table(path: str) -> None:
    routes = Routes({"gemini_generate": GEMINI, "openai_chat": OPENAI})

    with contextlib.suppress(NoSuchRoute, WrongMethod):
        routes.match("POST", path)
