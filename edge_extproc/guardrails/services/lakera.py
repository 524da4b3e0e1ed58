"""Lakera Guard, and servers that have the same API.

POST /v2/guard gets messages and answers `flagged`, with `breakdown: true` the detectors that flagged, and with
`payload: true` the places of personal data (https://docs.lakera.ai/docs/api/guard). Which detectors run, and on which
of the messages, is decided by the project's policy at the service. Each string of a call is one message.
"""

from __future__ import annotations

from typing import Any

from ...config.part import Text
from ...config.quantities import Boolean
from ..base import Checked, ServiceTools, Verdict
from ..service_http import ServiceClient, undocumented
from ..service_options import HeaderSecret, ServiceOptions, ServiceUrl
from ..service_texts import ROLES
from ..webhook_headers import webhook_headers

_PERSONAL = "pii"


class LakeraOptions(ServiceOptions):
    """Lakera Guard."""

    api_key: HeaderSecret | None = None
    """The API key. Servers of one's own may need none."""
    url: ServiceUrl = "https://api.lakera.ai"
    """The URL before /v2/guard."""
    project: Text | None = None
    """The project whose policy applies. Default: the policy of the account."""
    mask: Boolean = False
    """Replace personal data, if nothing else is flagged. false: personal data blocks, too."""


class Lakera:
    def __init__(self, options: LakeraOptions, client: ServiceClient) -> None:
        self._project = options.project
        self._mask = options.mask
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        texts = [piece.text for piece in checked.pieces]
        if not texts:
            return Verdict("pass")
        messages = [{"role": ROLES.get(piece.kind, "user"), "content": piece.text} for piece in checked.pieces]
        body: dict[str, Any] = {"messages": messages, "breakdown": True, "payload": self._mask}
        if self._project is not None:
            body["project_id"] = self._project
        answer = await self._client.post("/v2/guard", body)
        flagged = answer.get("flagged")
        if not isinstance(flagged, bool):
            raise undocumented("flagged")
        if not flagged:
            return Verdict("pass")
        detectors = _detectors(answer.get("breakdown"))
        if self._mask and detectors and all(name.partition("/")[0] == _PERSONAL for name in detectors):
            masked = _masked(texts, answer.get("payload"))
            if masked is not None:
                return Verdict("mask", detectors[0], tuple(masked))
        return Verdict("block", detectors[0] if detectors else "flagged")

    async def close(self) -> None:
        await self._client.close()


def _detectors(breakdown: Any) -> list[str]:
    """The types of the detectors that flagged, such as prompt_attack or pii/email."""
    if not isinstance(breakdown, list):
        return []
    rows = [row for row in breakdown if isinstance(row, dict) and row.get("detected") is not False]
    return [row["detector_type"] if isinstance(row.get("detector_type"), str) else "other" for row in rows]


def _masked(texts: list[str], payload: Any) -> list[str] | None:
    """The texts without the personal data of the payload. None: the payload does not fit the texts, or is empty."""
    if not isinstance(payload, list) or not payload:
        return None
    places: dict[int, list[tuple[int, int, str]]] = {}
    for row in payload:
        place = _place(texts, row)
        if place is None:
            return None
        at, start, end, label = place
        places.setdefault(at, []).append((start, end, label))
    masked = list(texts)
    for at, spans in places.items():
        # From the end on, so that the positions stay right.
        for start, end, label in sorted(_merged(spans), reverse=True):
            masked[at] = f"{masked[at][:start]}[{label}]{masked[at][end:]}"
    return masked


def _merged(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Places that overlap become one."""
    merged: list[tuple[int, int, str]] = []
    for start, end, label in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, end, label))
    return merged


def _place(texts: list[str], row: Any) -> tuple[int, int, int, str] | None:
    """The number of the text, the start, the end and the label. The end of a place is exclusive at some servers, and
    inclusive at others: the text of the place tells which."""
    if not isinstance(row, dict):
        return None
    at, start, end, text = row.get("message_id"), row.get("start"), row.get("end"), row.get("text")
    if not (type(at) is int and type(start) is int and type(end) is int and isinstance(text, str) and text):
        return None
    if not (0 <= at < len(texts) and 0 <= start <= end):
        return None
    for last in (end, end + 1):
        if texts[at][start:last] == text:
            kind = row.get("detector_type")
            label = kind.rpartition("/")[2].upper() if isinstance(kind, str) else ""
            return at, start, last, label if label.replace("_", "").isalnum() else "PII"
    return None


class LakeraPlugin:
    options = LakeraOptions

    def build(self, options: LakeraOptions, tools: ServiceTools) -> Lakera:
        headers = webhook_headers({}, tools, api_key=("authorization", options.api_key), prefix="Bearer ")
        return Lakera(options, ServiceClient(options.url, options, headers))


PLUGIN = LakeraPlugin()
