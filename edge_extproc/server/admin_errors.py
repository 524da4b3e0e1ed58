"""The errors of the admin API, and their response bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, TypeVar, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from ..config.pydantic_errors import in_one_line
from .admin import NO_SUCH_PATH

E = TypeVar("E", bound=Exception)

Role: TypeAlias = Literal["viewer", "tenant_admin", "admin"]
RANK: dict[Role, int] = {"viewer": 0, "tenant_admin": 1, "admin": 2}


class AdminRefused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def highest(rights: Iterable[str]) -> Role | None:
    return max(map(_role, rights), key=RANK.__getitem__, default=None)


def _role(right: str) -> Role:
    return next(role for role in RANK if role == right)


# --- errors


def _error(status: int, code: str, message: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def answer_to(app: FastAPI, kind: type[E], answer: Callable[[E], JSONResponse]) -> None:
    async def handle(request: Request, error: Exception) -> JSONResponse:
        del request
        return answer(cast(E, error))  # the handler is registered for this class only

    app.add_exception_handler(kind, handle)


def refused(error: AdminRefused) -> JSONResponse:
    return _error(error.status, error.code, error.message)


def invalid(error: RequestValidationError) -> JSONResponse:
    return _error(400, "invalid_request", in_one_line(error.errors()))


def http_error(error: HTTPException) -> JSONResponse:
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = NO_SUCH_PATH if error.status_code == 404 else str(error.detail)
    answer = _error(error.status_code, codes.get(error.status_code, "error"), message)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


def store_down(error: SQLAlchemyError) -> JSONResponse:
    structlog.get_logger().error("admin_store_down", exc_info=error)
    return _error(503, "store_down", "the database cannot be reached now; known keys and limits go on working")
