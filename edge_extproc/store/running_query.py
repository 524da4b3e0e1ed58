"""Stops the query of a reader who no longer waits for it.

A thread cannot be stopped, but the statement that it waits for can: SQLite asks from time to time whether it may go
on, and PostgreSQL ends a statement at the request of a second connection. Only reads are stopped: they run with a
`RunningQuery` in the context of their thread.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

# Instructions of SQLite's machine: some tenths of a millisecond.
_STEPS = 10_000
# For the second connection, seconds.
_CANCEL_SECONDS = 5.0
# Seconds between two requests to end a statement: they double.
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 5.0


class QueryStopped(SQLAlchemyError):
    """Nobody waits for the query."""


class RunningQuery:
    """What one call reads. One thread runs its statements, and another one may stop them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._detached = threading.Event()
        self.is_stopped = False

    def stop(self) -> None:
        """Ends the statement, and those that would follow. It may wait for PostgreSQL, so it belongs in a thread.

        PostgreSQL forgets a request that comes before the statement does: it is repeated until the connection is free,
        for about five seconds."""
        self.is_stopped = True
        pause = _FIRST_PAUSE
        while pause < _LAST_PAUSE and self._cancel() and not self._detached.wait(pause):
            pause *= 2

    def _cancel(self) -> bool:
        """Whether a connection has taken such a request."""
        with self._lock:
            if not hasattr(self._connection, "cancel_safe"):
                return False
            try:
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
            except Exception:  # noqa: BLE001 - the server cannot be reached: the statement ends with its connection
                return False
            return True

    def check(self) -> None:
        if self.is_stopped:
            raise QueryStopped

    def attach(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection
            self._detached.clear()
        if hasattr(connection, "set_progress_handler"):
            connection.set_progress_handler(lambda: self.is_stopped, _STEPS)

    def detach(self) -> None:
        connection = self._connection
        if hasattr(connection, "set_progress_handler"):
            connection.set_progress_handler(None, 0)
        # Not while another thread stops it: the connection's next statement is of another call.
        with self._lock:
            self._connection = None
            self._detached.set()


running_query: ContextVar[RunningQuery | None] = ContextVar("running_query", default=None)
"""Of the call that a thread runs. None: it is not stopped."""


def make_stoppable(engine: Engine) -> None:
    event.listen(engine, "checkout", _checked_out)
    event.listen(engine, "checkin", _checked_in)
    event.listen(engine, "before_cursor_execute", _before)


def _checked_out(connection: Any, *_: object) -> None:
    query = running_query.get()
    if query is not None:
        query.attach(connection)


def _checked_in(*_: object) -> None:
    query = running_query.get()
    if query is not None:
        query.detach()


def _before(*_: object) -> None:
    query = running_query.get()
    if query is not None:
        query.check()
