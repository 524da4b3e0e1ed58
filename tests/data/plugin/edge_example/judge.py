"""A service of guardrails that judges without a network."""

from __future__ import annotations

from edge_extproc.config.part import Text
from edge_extproc.guardrails.base import Checked, ServiceTools, Verdict
from edge_extproc.guardrails.service_options import ServiceOptions


class JudgeOptions(ServiceOptions):
    """A judge of one word."""

    word: Text
    """The word that it blocks."""


class Judge:
    def __init__(self, word: str) -> None:
        self._word = word

    async def check(self, checked: Checked) -> Verdict:
        is_in = any(self._word in piece.text for piece in checked.pieces)
        return Verdict("block", "word") if is_in else Verdict("pass")

    async def close(self) -> None:
        """It has no connection."""


class JudgePlugin:
    options = JudgeOptions

    def build(self, options: JudgeOptions, tools: ServiceTools) -> Judge:
        del tools  # it needs no secret
        return Judge(options.word)


PLUGIN = JudgePlugin()
