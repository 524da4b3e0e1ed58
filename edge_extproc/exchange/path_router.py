"""Finds the dialect and operation of a path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from ..codecs import json_splice
from ..dialects.base import Dialect, HasVariants, Route, StatefulDialect
from ..errors import NoSuchRoute, WrongMethod
from ..operations.base import OperationFormat

# WebSockets and WebRTC: they are not one request with one response.
REALTIME = "/v1/realtime"

# Characters. For a longer path no other path is suggested, so that the search is short.
_LONGEST_HINTED = 200

_PLACEHOLDER = re.compile(r"\{\w+\}")


class _Node:
    """One segment of the paths with a placeholder. A step is the segment itself, or "{}" and the rest of the
    placeholder's segment, which begins with a colon: Google's paths end in {model}:verb."""

    __slots__ = ("methods", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, _Node] = {}
        self.methods: dict[str, tuple[Dialect, Route]] = {}

    def step(self, segment: str) -> _Node | None:
        """The next node, by the most specific step. There is no backtracking, so the cost is linear in the path's
        length."""
        node = self.steps.get(segment)
        if node is not None or not segment:
            return node
        name, colon, verb = segment.rpartition(":")
        if name and (node := self.steps.get("{}" + colon + verb)) is not None:
            return node
        return self.steps.get("{}")


def _members_of(body: bytes) -> Collection[str]:
    """The names of the top-level members; none if it is not a JSON object."""
    try:
        return json_splice.members_of(body).keys()
    except ValueError:
        return ()


class PathRouter:
    """Finds the dialect and the operation of a path."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        formats: Mapping[str, OperationFormat] = MappingProxyType({}),
        passed: Sequence[str] = (),
        *,
        stores: bool = False,
    ) -> None:
        """`passed`: paths that are passed on unread, with all paths below them. `stores`: the gateway has a store of
        conversations."""
        self._by_path: dict[str, dict[str, tuple[Dialect, Route]]] = {}
        """As the dialects spell them, with placeholders."""
        self._by_member: dict[tuple[str, str], list[tuple[Dialect, Route]]] = {}
        """The routes that only the body shows, by method and path."""
        self.paths_by_body: set[str] = set()
        """The paths of these routes, as the dialects spell them."""
        self._templates = _Node()
        self._by_header = {name: dialect for dialect in dialects.values() for name in dialect.client_headers}
        for dialect in dialects.values():
            for each in (dialect, *(dialect.variants if isinstance(dialect, HasVariants) else ())):
                for route in each.routes:
                    self._add(each, route)
            for route in dialect.stored_routes if stores and isinstance(dialect, StatefulDialect) else ():
                self._add(dialect, route)
        for form in formats.values():
            for route in form.routes:
                self._add(dialects[form.error_dialect], route)
        self._passed = tuple(passed)
        self._passers = dialects.get(formats["passed"].error_dialect) if "passed" in formats else None

    def _add(self, dialect: Dialect, route: Route) -> None:
        methods = self._by_path.setdefault(route.path, {})
        if route.member:
            self._by_member.setdefault((route.method, route.path), []).append((dialect, route))
            self.paths_by_body.add(route.path)
        if route.member and route.method in methods:
            return
        methods[route.method] = (dialect, route)
        if "{" in route.path:
            self._node(route.path).methods[route.method] = (dialect, route)

    def _passing(self, method: str, path: str) -> tuple[Dialect, Route] | None:
        """The route of a path that the configuration passes on unread, or None."""
        if self._passers is None or not any(path == p or path.startswith(p + "/") for p in self._passed):
            return None
        return self._passers, Route(method, path, "passed", "passed")

    def _node(self, template: str) -> _Node:
        node = self._templates
        for segment in template.split("/"):
            node = node.steps.setdefault(_PLACEHOLDER.sub("{}", segment), _Node())
        return node

    def _methods(self, path: str) -> Mapping[str, tuple[Dialect, Route]] | None:
        """The methods of exactly this path."""
        exact = self._by_path.get(path)
        if exact is not None:
            return exact
        node: _Node | None = self._templates
        for segment in path.split("/"):
            node = node.step(segment) if node is not None else None
        return node.methods or None if node is not None else None

    def methods(self, path: str) -> Mapping[str, tuple[Dialect, Route]]:
        """The routes of a path by their methods; empty if it is not one of the dialects' paths."""
        return self._methods(self.canonical(path)) or {}

    def canonical(self, path: str) -> str:
        """The path as the dialects spell it: some clients leave out the version, or put /openai before it. An unknown
        path is returned unchanged."""
        if path in self._by_path or self._methods(path) is not None:
            return path
        below = path.removeprefix("/openai") if path.startswith("/openai/") else path
        forms = (below, f"/v1{below}", f"/v1beta{below}") if below is not path else (f"/v1{path}", f"/v1beta{path}")
        return next((form for form in forms if self._methods(form) is not None), path)

    def alternatives(self, route: Route) -> Sequence[tuple[Dialect, Route]]:
        """The routes of the same method and path that only the body shows."""
        return self._by_member.get((route.method, route.path), ())

    def by_body(self, dialect: Dialect, route: Route, body: bytes) -> tuple[Dialect, Route]:
        """The route that a body belongs to: `route`, or one of its alternatives."""
        for other in self.alternatives(route):
            member = other[1].member
            if member.encode() in body and member in _members_of(body):
                return other
        return dialect, route

    def match(self, method: str, path: str) -> tuple[Dialect, Route]:
        """The route. `path` is without its query. Raises NoSuchRoute or WrongMethod, with the existing paths or
        methods."""
        methods: Mapping[str, tuple[Dialect, Route]] | None = self._by_path.get(path)
        if methods is None:
            path = self.canonical(path)
            methods = self._methods(path)
        # A path with GET also supports HEAD.
        route = (methods or {}).get("GET" if method == "HEAD" else method) or self._passing(method, path)
        if route is not None and route[1].operation == "stored":
            dialect = route[0]
            is_own = isinstance(dialect, StatefulDialect) and dialect.is_own_object(path)
            return route if is_own else self._passing(method, path) or route
        if route is not None:
            return route
        if path == REALTIME or path.startswith(REALTIME + "/"):
            raise NoSuchRoute(
                "realtime sessions do not go through this gateway as plain requests; open a WebSocket at /v1/realtime, "
                "if the operator has turned on `sockets`, or send requests, streamed or not"
            )
        if methods is None:
            paths = ", ".join(sorted({*self._by_path, *self._passed}))
            raise NoSuchRoute(f"no API at {path!r}; {self._hint(path) or f'have {paths}'}")
        raise WrongMethod(f"{method} is not a method of {path}; use {', '.join(sorted(methods))}")

    def _hint(self, path: str) -> str:
        """The path that was probably meant: a base URL may lack the version, or have it twice, or have a prefix."""
        if len(path) > _LONGEST_HINTED:
            return ""
        segments = path.strip("/").split("/")
        for begin in range(len(segments)):
            end = "/".join(segments[begin:])
            for candidate in (f"/{end}", f"/v1/{end}", f"/v1beta/{end}"):
                if candidate != path and self._methods(candidate) is not None:
                    return f"did you mean {candidate!r}? check the base URL of the client"
        close = difflib.get_close_matches(path, self._by_path, n=1, cutoff=0.9)
        return f"did you mean {close[0]!r}?" if close else ""

    def caller_dialect(self, path: str, headers: Collection[str]) -> Dialect | None:
        """The dialect for errors before the route is known. It is that of a header that only clients of one dialect
        send, else of the path, else of a path above it. None if it is unknown. `headers`: their names."""
        for name, dialect in self._by_header.items():
            if name in headers:
                return dialect
        methods = self._by_path.get(path) or self._methods(self.canonical(path))
        if methods is not None:
            return next(iter(methods.values()))[0]
        for known, below in self._by_path.items():
            if path.startswith(known + "/"):
                return next(iter(below.values()))[0]
        return None
