"""Work that a provider does after its reply, for a caller with a budget, on real Envoy with two workers: a batch from
its upload to its results, and a response in the background."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import gateway as gateways
import openai
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, until
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
        more="endpoints: {/v1/files: openai, /v1/batches: openai, /v1/responses: openai}\nstore: {every: 100ms}\n"
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


def batch_rows(running: RunningGateway) -> list[dict[str, Any]]:
    return [row for row in running.usage("--rows") if row["operation"] == "batch"]


def upload(sdk: openai.OpenAI, replay: Replaying, lines: int, id: str = "file-in") -> None:
    replay.answers(json.dumps({**FILE, "id": id}).encode())
    raw = b"".join(json.dumps(LINE).encode() + b"\n" for _ in range(lines))
    assert id == sdk.files.create(file=("a.jsonl", io.BytesIO(raw)), purpose="batch").id


def test_a_batch_is_reserved_charged_and_settled(running: RunningGateway, replay: Replaying) -> None:
    before = used(running)
    with client(running) as sdk:
        upload(sdk, replay, 2)
        replay.answers(json.dumps(BATCH).encode())
        sdk.batches.create(input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h")
        until(lambda: used(running) > before + COST)

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

    until(lambda: used(running) == before + COST)
    until(lambda: sum(Decimal(row["cost"] or 0) for row in batch_rows(running)) == COST)
    (total,) = [row for row in running.usage("--by", "operation") if row["operation"] == "batch"]
    rows = batch_rows(running)

    assert (0, 600) == (total["requests"], total["tokens"])
    assert 3 == len(rows)
    assert all(row["exchange"].startswith("batch_1.") and row["upstream_model"] == "gpt-4o-mini" for row in rows)


QUEUED = {
    "id": "resp_background",
    "object": "response",
    "created_at": 1,
    "status": "queued",
    "background": True,
    "model": "gpt-4o-mini-2024-07-18",
    "output": [],
    "usage": None,
}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
}


def test_a_response_in_the_background_is_charged_and_settled(running: RunningGateway, replay: Replaying) -> None:
    before = used(running)
    with client(running) as sdk:
        replay.answers(json.dumps(QUEUED).encode())
        created = sdk.responses.create(model="gpt-4o-mini", input="Hi", background=True, max_output_tokens=500)
        assert ("queued", True) == (created.status, replay.asked[-1].json["background"])
        # Its bound: 500 tokens at 20 dollars for a million.
        until(lambda: used(running) > before + Decimal("0.01"))

    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=OTHER_KEY, max_retries=0, timeout=30) as stranger:
        replay.answers(json.dumps(QUEUED).encode())
        for act in (stranger.responses.retrieve, stranger.responses.cancel, stranger.responses.delete):
            with pytest.raises(openai.NotFoundError):
                act(created.id)
        assert [] == replay.asked

    with client(running) as sdk:  # a new connection, which may reach the other worker
        replay.answers(json.dumps({**QUEUED, "status": "in_progress"}).encode())
        assert "in_progress" == sdk.responses.retrieve(created.id).status
        counts = {"input_tokens": 100, "output_tokens": 200, "total_tokens": 300}
        ended = {**QUEUED, "status": "completed", "output": [MESSAGE], "usage": counts}
        for _ in range(3):
            replay.answers(json.dumps(ended).encode())
            assert "Yes" == sdk.responses.retrieve(created.id).output_text

    until(lambda: used(running) == before + COST)
    until(lambda: any(row["exchange"].endswith(".usage0") for row in running.usage("--rows")))
    rows = [row for row in running.usage("--rows") if row["exchange"].startswith("resp_background.")]

    (total,) = [row for row in running.usage("--by", "operation") if row["operation"] == "background"]

    assert COST == sum(Decimal(row["cost"]) for row in rows)
    assert (0, 300) == (total["requests"], total["tokens"])
