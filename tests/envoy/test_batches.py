"""A batch of a caller with a budget, from its upload to its results, on real Envoy with two workers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import gateway as gateways
import openai
import pytest
from gateway import KEY, RunningGateway, until
from replaying import Replaying

pytestmark = pytest.mark.envoy

TOKEN = "a-token-of-an-admin-for-tests"
LINE = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000},
}
FILE = {
    "id": "file-in",
    "object": "file",
    "bytes": 1,
    "created_at": 1,
    "filename": "a",
    "purpose": "batch",
    "status": "processed",
}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "completion_window": "24h",
    "created_at": 1,
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file-in",
    "status": "validating",
}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
}
# A row of `prices` below: dollars for a million tokens. A batch costs half of it.
COST = 2 * (Decimal(100) * 10 + Decimal(200) * 20) / 1_000_000 / 2


@pytest.fixture(scope="module")
def running(replay: Replaying) -> Iterator[RunningGateway]:
    text = gateways.config(
        replay.url,
        workers=2,
        more="endpoints: {/v1/files: openai, /v1/batches: openai}\nstore: {every: 100ms}\n"
        "prices: [{provider: openai, model: 'gpt-*', input: 10, output: 20}]\nretries: {attempts: 1}",
    ).replace("{tenant: acme,", "{tenant: acme, limits: {dollars_per_day: 0.05},")
    admin = next(line for line in text.splitlines() if line.startswith("admin: "))
    text = text.replace(admin, admin[:-1] + f", tokens: [{{id: root, role: admin, token: {TOKEN}}}]}}")
    with RunningGateway(text) as found:
        yield found


def client(running: RunningGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0, timeout=30)


def used(running: RunningGateway) -> Decimal:
    """The dollars of today, as the admin API shows them."""
    request = urllib.request.Request(
        f"{running.admin}/admin/v1/budgets?tenant=acme", headers={"authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        budgets = json.loads(answer.read())
    (limit,) = [limit for budget in budgets for limit in budget["limits"] if limit["limit"] == "dollars_per_day"]
    return Decimal(str(limit["used"]))


def usage(running: RunningGateway, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "edge_extproc", "usage", "--config", str(running.path), "--format", "json"]
    found = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, cwd=running.directory)
    return [json.loads(line) for line in found.stdout.splitlines()]


def upload(sdk: openai.OpenAI, replay: Replaying, lines: int, id: str = "file-in") -> None:
    replay.answers(json.dumps({**FILE, "id": id}).encode())
    raw = b"".join(json.dumps(LINE).encode() + b"\n" for _ in range(lines))
    assert id == sdk.files.create(file=("a.jsonl", io.BytesIO(raw)), purpose="batch").id


def test_a_batch_is_reserved_charged_and_settled(running: RunningGateway, replay: Replaying) -> None:
    with client(running) as sdk:
        upload(sdk, replay, 2)
        replay.answers(json.dumps(BATCH).encode())
        sdk.batches.create(input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h")
        until(lambda: used(running) > COST)

        # 100 requests of a cent each do not fit.
        upload(sdk, replay, 100, "file-big")
        replay.answers(json.dumps(BATCH).encode())
        with pytest.raises(openai.RateLimitError):
            sdk.batches.create(input_file_id="file-big", endpoint="/v1/chat/completions", completion_window="24h")
        assert [] == replay.asked

    with client(running) as sdk:  # a new connection, which may reach the other worker
        ended = {"status": "completed", "output_file_id": "file-out", "request_counts": {"total": 2, "completed": 2}}
        replay.answers(json.dumps({**BATCH, **ended}).encode())
        assert "completed" == sdk.batches.retrieve("batch_1").status
        result = {"custom_id": "a", "response": {"status_code": 200, "body": ANSWER}, "error": None}
        raw = b"".join(json.dumps(result).encode() + b"\n" for _ in range(2))
        for _ in range(3):
            replay.answers(raw, "application/octet-stream")
            assert raw == sdk.files.content("file-out").content

    until(lambda: used(running) == COST)
    until(lambda: sum(Decimal(row["cost"] or 0) for row in usage(running, "--rows")) == COST)
    (total,) = [row for row in usage(running, "--by", "operation") if row["operation"] == "batch"]
    rows = [row for row in usage(running, "--rows") if row["operation"] == "batch"]

    assert (0, 600) == (total["requests"], total["tokens"])
    assert 3 == len(rows)
    assert all(row["exchange"].startswith("batch_1.") and row["upstream_model"] == "gpt-4o-mini" for row in rows)
