"""A detector: it finds one sign."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_extproc.config.part import ConfigSection, Text
from edge_extproc.guardrails.base import Finding
from edge_extproc.model.rule_hit import TextKind


class MarksOptions(ConfigSection):
    """A sign in texts."""

    sign: Text = "@@"
    """The sign."""


class Marks:
    def __init__(self, sign: str) -> None:
        self._sign = re.compile(re.escape(sign))
        self.longest = len(sign)

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        return [Finding(match.start(), match.end(), "mark") for match in self._sign.finditer(text)]


class MarksPlugin:
    options = MarksOptions

    def build(self, options: MarksOptions) -> Marks:
        return Marks(options.sign)


PLUGIN = MarksPlugin()
