"""The text of a stream that rules can still need, and their findings in it.

A detector may know which end of the text is not decided (StreamDetector): then a rule with it holds this end alone. For
the other detectors: a finding is at most `longest` characters long. So a finding that begins more than `longest`
characters before the end of the received text is complete, and the text before that place can be sent. The same number
of characters before it stays, because a detector may look at them. The text is searched again only after it has grown
by a quarter of `longest`: each character is searched about nine times, whatever the size of the deltas.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import cast

from ..codecs.json_values import decode
from ..model.frozen_dataclass import frozen_dataclass
from .base import Detector, Finding, Masker, Rule, StreamDetector, TextKind

MAX_HELD = 1 << 20
"""Characters. A reply of which more must be held is blocked, as the rule cannot be applied."""
# Characters. A window that holds what has begun looks at its text after so many new ones: three pieces of a stream.
_LEAST_STEP = 16
_TOO_LONG = "too_long"
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z")
_SCALAR = re.compile(r'[^\s,:{}\[\]"]+')


class BlockedText(Exception):
    """A rule ends the reply. It contains no text of it."""

    def __init__(self, rule: Rule, label: str) -> None:
        super().__init__(rule.name)
        self.rule = rule
        self.label = label


@frozen_dataclass
class Segment:
    """Text for the caller."""

    text: str
    length: int
    """Characters of the provider's text that it stands for."""
    is_new: bool = False
    """It is a placeholder that replaces a finding: it is not restored."""
    block: BlockedText | None = None
    """The reply ends after this text."""


class Held:
    """How many characters all parts of a reply hold."""

    __slots__ = ("length",)

    def __init__(self) -> None:
        self.length = 0


def _streaming(detectors: Sequence[Detector]) -> list[StreamDetector]:
    """Those that know which end of a text is not decided. isinstance of a protocol would be slow."""
    return [cast("StreamDetector", each) for each in detectors if hasattr(each, "open_end")]


class RuleWindow:
    """Of one part: the text that is not decided yet, after some text that is."""

    __slots__ = (
        "_context",
        "_counts",
        "_done",
        "_fixed",
        "_held",
        "_kind",
        "_length",
        "_longest",
        "_looked",
        "_masker",
        "_new",
        "_rules",
        "_step",
        "_streaming",
        "_text",
    )

    def __init__(
        self,
        rules: Sequence[Rule],
        kind: TextKind,
        masker: Masker,
        counts: Counter[tuple[str, str]],
        held: Held | None,
    ) -> None:
        """`held`: None if no text waits for these rules."""
        self._rules = rules
        self._kind: TextKind = kind
        self._masker = masker
        self._counts = counts
        self._held = held
        detectors = [rule.detector for rule in rules if rule.detector is not None]
        self._longest = max((each.longest for each in detectors), default=0)
        self._streaming = _streaming(detectors) if held is not None else []
        fixed = [each.longest for each in detectors if each not in self._streaming]
        self._fixed = max(fixed, default=0)
        """Characters that the other detectors hold."""
        self._context = max((*fixed, *(each.context for each in self._streaming)), default=0)
        """Characters before the undecided text that detectors look at."""
        self._step = self._longest // 4 + 1
        self._looked = 0
        """The length at the last look at its open end."""
        self._text = ""
        self._new: list[str] = []
        """Text that was added since the last search."""
        self._length = 0
        """Of the text and the new text."""
        self._done = 0
        """The text before this place has been sent."""

    def add(self, text: str) -> list[Segment]:
        """The text that is decided. After a block, it is the last."""
        self._new.append(text)
        self._length += len(text)
        if self._held is not None:
            self._held.length += len(text)
        if self._streaming:
            limit = self._decided_end()
            if limit > self._done:
                return self._decided(limit)
        elif self._length - self._done >= self._longest + self._step:
            return self._decided(self._length - self._longest)
        if (self._length - self._done if self._held is None else self._held.length) > MAX_HELD:
            return self._too_long()
        return []

    def _decided_end(self) -> int:
        """The end of the text that is decided, if enough has been added since the last look at it."""
        waiting = self._length - self._done
        if waiting < self._fixed or self._length - self._looked < max(_LEAST_STEP, waiting // 8):
            return 0
        self._join()
        self._looked = self._length
        return self._length - max(self._fixed, *(each.open_end(self._text) for each in self._streaming))

    def _join(self) -> None:
        self._text = "".join((self._text, *self._new))
        self._new.clear()

    def _too_long(self) -> list[Segment]:
        if self._held is None:  # nothing waits for these rules: they see the text in pieces
            return self._decided(self._length)
        rule = max(self._rules, key=lambda rule: rule.detector.longest if rule.detector is not None else 0)
        self._counts[rule.name, _TOO_LONG] += 1
        return [Segment("", 0, block=BlockedText(rule, _TOO_LONG))]

    def end(self) -> list[Segment]:
        """The rest."""
        return self._decided(self._length)

    def _decided(self, limit: int) -> list[Segment]:
        """The text up to `limit`, or to the end of a finding that begins before it."""
        self._join()
        if self._held is None:
            return self._counted(limit)
        before = self._done
        out: list[Segment] = []
        for finding, rule in self._findings(limit):
            start = max(finding.start, self._done)
            if finding.end <= start:
                continue
            self._counts[rule.name, finding.label] += 1
            if start > self._done:
                out.append(self._unchanged(self._done, start))
            self._done = finding.end
            if rule.action == "block":
                out.append(Segment("", 0, block=BlockedText(rule, finding.label)))
                return out
            out += self._masked(start, finding.end, finding.label)
        if limit > self._done:
            out.append(self._unchanged(self._done, limit))
            self._done = limit
        self._held.length -= self._done - before
        self._forget(max(0, self._done - self._context))
        return out

    def _counted(self, limit: int) -> list[Segment]:
        """Counts the findings of each rule that begin before `limit`."""
        for finding, rule in self._findings(limit):
            if finding.start >= self._done:
                self._counts[rule.name, finding.label] += 1
        self._done = limit
        self._forget(max(0, self._done - self._context))
        return []

    def _findings(self, limit: int) -> list[tuple[Finding, Rule]]:
        """Those that begin before `limit` and are not sent. Of two at the same place, a block is the first."""
        found = [
            (finding, rule)
            for rule in self._rules
            if rule.detector is not None
            for finding in self._found_by(rule.detector)
            if finding.end > self._done and finding.start < limit
        ]
        found.sort(key=lambda each: (max(each[0].start, self._done), each[1].action != "block", -each[0].end))
        return found

    def _found_by(self, detector: Detector) -> list[Finding]:
        """Findings do not overlap, so one that begins in the text that is sent could hide another one after it."""
        found = list(detector.find(self._text, self._kind))
        done = self._done
        if any(finding.start < done < finding.end for finding in found):
            rest = detector.find(self._text[done:], self._kind)
            found += [Finding(each.start + done, each.end + done, each.label) for each in rest]
        return found

    def _unchanged(self, start: int, end: int) -> Segment:
        return Segment(self._text[start:end], end - start)

    def _masked(self, start: int, end: int, label: str) -> list[Segment]:
        name = self._masker.placeholder(self._text[start:end], label, restore=False)
        return [Segment(name, end - start, is_new=True)]

    def _forget(self, count: int) -> None:
        if count:
            self._text = self._text[count:]
            self._length -= count
            self._looked -= count
            self._done -= count


class JsonWindow(RuleWindow):
    """The same for JSON text. The rules see it without the escapes of its strings. A number that is masked becomes a
    string."""

    __slots__ = ("_in_string", "_open", "_quotes", "_written")

    def __init__(
        self,
        rules: Sequence[Rule],
        kind: TextKind,
        masker: Masker,
        counts: Counter[tuple[str, str]],
        held: Held | None,
    ) -> None:
        super().__init__(rules, kind, masker, counts, held)
        self._open = ""
        """The beginning of an escape."""
        self._written: dict[int, str] = {}
        """For each place of the text that was an escape: how it was written."""
        self._quotes: list[int] = []
        """The places of quotes that begin and end strings."""
        self._in_string = False
        """Whether the text begins within a string."""

    def add(self, text: str) -> list[Segment]:
        text = self._open + text
        match = _OPEN_ESCAPE.search(text) if "\\" in text[-12:] else None
        end = match.start() if match is not None and not _is_escaped(text, match.start()) else len(text)
        self._open = text[end:]
        return super().add(self._plain(text[:end]))

    def end(self) -> list[Segment]:
        rest, self._open = self._open, ""
        return [*super().add(rest), *super().end()]

    def _plain(self, text: str) -> str:
        """The text without escapes, whose places it records."""
        parts: list[str] = []
        length, done = self._length, 0
        for match in _ESCAPE.finditer(text):
            length = self._literal(parts, text[done : match.start()], length)
            done = match.end()
            char = _decoded(match[0])
            self._written[length] = match[0]
            parts.append(char)
            length += 1
        self._literal(parts, text[done:], length)
        return "".join(parts)

    def _literal(self, parts: list[str], text: str, length: int) -> int:
        place = text.find('"')
        while place >= 0:
            self._quotes.append(length + place)
            place = text.find('"', place + 1)
        parts.append(text)
        return length + len(text)

    def _unchanged(self, start: int, end: int) -> Segment:
        if not self._written:
            return super()._unchanged(start, end)
        text = "".join(self._written.get(place, self._text[place]) for place in range(start, end))
        return Segment(text, len(text))

    def _masked(self, start: int, end: int, label: str) -> list[Segment]:
        """Each string of a finding becomes a placeholder, and so does each number. Quotes and brackets stay."""
        out: list[Segment] = []
        begin = start
        for quote in (*(place for place in self._quotes if start <= place < end), end):
            if begin < quote:
                out += self._masked_run(begin, quote, label)
            if quote < end:
                out.append(self._unchanged(quote, quote + 1))
            begin = quote + 1
        return out

    def _masked_run(self, start: int, end: int, label: str) -> list[Segment]:
        """A part of a finding without the quotes of strings."""
        length = self._unchanged(start, end).length
        if self._is_in_string(start):
            return [Segment(self._masker.placeholder(self._text[start:end], label, restore=False), length, is_new=True)]
        text = _SCALAR.sub(
            lambda match: f'"{self._masker.placeholder(match[0], label, restore=False)}"', self._text[start:end]
        )
        return [Segment(text, length, is_new=True)]

    def _is_in_string(self, place: int) -> bool:
        return self._in_string ^ (sum(quote < place for quote in self._quotes) % 2 == 1)

    def _forget(self, count: int) -> None:
        super()._forget(count)
        if not count:
            return
        self._in_string ^= sum(quote < count for quote in self._quotes) % 2 == 1
        self._quotes = [quote - count for quote in self._quotes if quote >= count]
        self._written = {place - count: text for place, text in self._written.items() if place >= count}


def _is_escaped(text: str, place: int) -> bool:
    """Whether a backslash before this place makes the character a part of an escape."""
    before = len(text[:place]) - len(text[:place].rstrip("\\"))
    return before % 2 == 1


def _decoded(escape: str) -> str:
    """The character of an escape. An escape that is none stays as one unknown character."""
    try:
        value = decode(f'"{escape}"'.encode())
    except ValueError:
        return "\ufffd"
    return value if isinstance(value, str) and len(value) == 1 else "\ufffd"
