"""Requests to the admin API of a running gateway, and calls of its callers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from gateway import RunningGateway

ROOT = "admin-token-of-root"


def ask_admin_api(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of the response; None if it has no body."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"authorization": f"Bearer {ROOT}", "content-type": "application/json"}
    return response_of(urllib.request.Request(f"{gateway.admin}/admin/v1{path}", data, headers, method=method))


def call(gateway: RunningGateway, key: str, model: str = "gpt-4o-mini") -> tuple[int, Any]:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    return response_of(urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers))


def response_of(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
