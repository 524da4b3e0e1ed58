"""Checks a reply with the services of rules, besides what reply_guard.py does with detectors.

The order is: rules with a detector, services, placeholders become values. So a service gets the texts as the detectors
left them, and never a value that a rule has masked. In a stream, the events wait until a window of text is full or the
stream ends. Then the services of all rules are asked about it at the same time. Rules that can neither change nor end
the reply are asked at its end, and nothing but the end waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ..errors import PolicyUnavailable
from ..model.content import Json, Part, Refusal, Text, Thinking, ToolCall
from ..model.frozen_dataclass import frozen_dataclass
from ..model.reply import (
    Choice,
    Ended,
    Failed,
    PartDelta,
    PartStarted,
    Ping,
    Reply,
    ReplyEvent,
)
from .base import Checked, Masker, Piece, Restorer, Rule, RuleHit, Service, TextKind, Verdict
from .body_texts import InlineMedia, TextPlace, is_binary, is_json, read_texts
from .reply_guard import KINDS_OF_PARTS, Place, RuledReply, blocked_reply
from .reply_window import MAX_HELD
from .service_rules import UNAVAILABLE, apply_services, assignable, label_of

CONTEXT = 256
"""Characters before a window that are sent with it to rules that block, because what they look for can begin there."""
_TOO_LONG = "too_long"


@dataclass(slots=True)
class _PartTexts:
    """The text of one part."""

    kind: TextKind
    waiting: list[str] = field(default_factory=list)
    """The text that no verdict allows yet."""
    before: str = ""
    """The end of the text before it."""
    all: list[str] = field(default_factory=list)
    """The whole text, for the rules that are asked at the end."""


@frozen_dataclass
class _Question:
    """One text of a reply."""

    place: Place
    kind: TextKind
    text: str
    before: str = ""


Texts: TypeAlias = dict[Place, str]


class JudgedReply:
    """A ReplyGuard with services. It is the ReplyServices of itself."""

    def __init__(
        self,
        rules: Sequence[Rule],
        masker: Masker,
        restorer: Restorer,
        checked: Checked,
        clock: Callable[[], float],
        *,
        signs_thinking: bool = True,
    ) -> None:
        """`checked`: the call, without texts. `clock`: monotonic, seconds."""
        detectors = [rule for rule in rules if rule.service is None]
        self._services = [(rule, rule.service) for rule in rules if rule.service is not None]
        self._holding = [each for each in self._services if each[0].holds_replies]
        self._seeing = [each for each in self._services if not each[0].holds_replies]
        changes = bool(self._holding)
        self._detectors = RuledReply(
            detectors, _OtherNames(masker, restorer), None, signs_thinking=signs_thinking, changes=changes
        )
        self._restoring = RuledReply((), masker, restorer, signs_thinking=signs_thinking, changes=changes)
        self._checked = checked
        self._clock = clock
        windows = [rule.window for rule, _ in self._holding]
        self._window = MAX_HELD if None in windows else max((each for each in windows if each), default=0)
        intervals = [rule.interval for rule, _ in self._holding if rule.interval is not None]
        self._interval = min(intervals) if intervals and None not in windows else None
        self._held_kinds = _kinds_of(self._holding)
        self._seen_kinds = _kinds_of(self._seeing)
        self._parts: dict[Place, _PartTexts] = {}
        self._queue: list[ReplyEvent] = []
        """The events that wait, the oldest first."""
        self._length = 0
        """Characters of text that wait."""
        self._seen_length = 0
        self._since = 0.0
        """When the first of them came."""
        self._ended = self._is_judged = False
        self._counts: dict[tuple[str, str, bool], int] = {}
        self._blocked: RuleHit | None = None

    def __repr__(self) -> str:
        return f"JudgedReply({len(self._services)} services)"

    # --- ReplyGuard

    @property
    def hits(self) -> Sequence[RuleHit]:
        rules = {rule.name: rule for rule, _ in self._services}
        own = []
        for (name, label, blocks), count in self._counts.items():
            rule = rules[name]
            action = "block" if blocks else "flag" if label == UNAVAILABLE else rule.action
            own.append(RuleHit(name, label, action, rule.mode, "reply", count))
        return (*self._detectors.hits, *own)

    @property
    def blocked(self) -> RuleHit | None:
        return self._detectors.blocked or self._blocked

    @property
    def can_block(self) -> bool:
        return bool(self._holding) or self._detectors.can_block

    @property
    def strictest(self) -> str:
        return self._holding[0][0].name if self._holding else self._detectors.strictest

    @property
    def can_change(self) -> bool:
        return self._restoring.can_change or self._detectors.can_change

    @property
    def services(self) -> JudgedReply:
        return self

    def checked(self, event: ReplyEvent) -> tuple[ReplyEvent, ...]:
        if self._blocked is not None:
            return ()
        return tuple([out for each in self._detectors.checked(event) for out in self._taken(each)])

    def json(self, value: Json) -> Json:
        del value
        raise TypeError("a service must be asked")

    def complete(self, reply: Reply) -> Reply:
        del reply
        raise TypeError("a service must be asked")

    # --- a stream

    def _taken(self, event: ReplyEvent) -> Iterator[ReplyEvent]:
        """The events for the caller; those that wait are queued."""
        if isinstance(event, Ping):
            yield event
            return
        if isinstance(event, PartStarted) and (kind := KINDS_OF_PARTS.get(event.kind)) is not None:
            self._parts[event.choice, event.part] = _PartTexts(kind)
        elif isinstance(event, PartDelta):
            self._add(event)
        elif isinstance(event, Ended | Failed):
            self._ended = True
        if self._length:
            self._queue.append(event)
        else:
            yield from self._restoring.checked(event)

    def _add(self, event: PartDelta) -> None:
        place = event.choice, event.part
        part = self._parts.get(place) or self._parts.setdefault(place, _PartTexts("assistant"))
        if part.kind in self._held_kinds:
            if not self._length:
                self._since = self._clock()
            part.waiting.append(event.text)
            self._length += len(event.text)
        if part.kind in self._seen_kinds and self._seen_length <= MAX_HELD:
            part.all.append(event.text)
            self._seen_length += len(event.text)

    @property
    def due(self) -> bool:
        if self._blocked is not None or self._is_judged:
            return False
        if self._length:
            waited = self._interval is not None and self._clock() - self._since >= self._interval
            return self._ended or waited or self._length >= self._window
        return self._ended and self._seen_length > 0

    async def judged(self) -> tuple[ReplyEvent, ...]:
        self._is_judged = self._ended
        events, self._queue = self._queue, []
        is_too_long, self._length = not self._ended and self._window >= MAX_HELD, 0
        if is_too_long and events:  # the rules need the whole reply
            rule = next(rule for rule, _ in self._holding if rule.window is None)
            self._count(rule, _TOO_LONG, 1, blocks=True)
            return self._end(rule, _TOO_LONG)
        asked = self._ask(self._holding, self._waiting())
        changed, _ = await asyncio.gather(asked, self._see())
        if self._blocked is not None:
            return tuple(self._restoring.end_of_blocked())
        return tuple([out for event in _with(events, changed) for out in self._restoring.checked(event)])

    async def _see(self) -> None:
        if self._ended:
            every = [_Question(place, part.kind, "".join(part.all)) for place, part in self._parts.items() if part.all]
            await self._ask(self._seeing, every)

    def _waiting(self) -> list[_Question]:
        found = []
        for place, part in self._parts.items():
            text = "".join(part.waiting)
            if text:
                found.append(_Question(place, part.kind, text, part.before))
                part.before = (part.before + text)[-CONTEXT:]
                part.waiting.clear()
        return found

    def _end(self, rule: Rule, label: str) -> tuple[ReplyEvent, ...]:
        self._blocked = self._blocked or RuleHit(rule.name, label, "block", rule.mode, "reply", 1)
        return tuple(self._restoring.end_of_blocked())

    # --- a complete reply

    async def judged_reply(self, reply: Reply) -> Reply:
        checked = self._detectors.complete(reply)
        if self._detectors.blocked is not None:
            return checked
        texts = {
            (number, index): _Question((number, index), *found)
            for number, choice in enumerate(checked.choices)
            for index, part in enumerate(choice.parts)
            if (found := _text_of(part)) is not None and found[1]
        }
        changed = await self._ask(self._services, list(texts.values()))
        if self._blocked is not None:
            return blocked_reply(reply)
        if changed:
            choices = [_changed(number, choice, changed) for number, choice in enumerate(checked.choices)]
            checked = replace(checked, choices=tuple(choices))
        return self._restoring.complete(checked)

    def detected_reply(self, reply: Reply) -> Reply:
        return self._detectors.complete(reply)

    # --- a reply that is no chat

    def detected(self, value: Json) -> Json:
        return self._detectors.json(value)

    async def judged_body(self, raw: bytes, content_type: str) -> bytes:
        body = read_texts(raw, content_type, _Unknown())
        found = await apply_services(body, [rule for rule, _ in self._services], self._checked)
        for hit in found.hits:
            rule = next(rule for rule, _ in self._services if rule.name == hit.rule)
            self._count(rule, hit.label, hit.count, blocks=hit.action == "block")
        if found.blocked is not None:
            rule = next(rule for rule, _ in self._services if rule.name == found.blocked.rule)
            self._end(rule, found.blocked.label)
        return found.body

    def restored(self, value: Json) -> Json:
        return self._restoring.json(value)

    # --- the services

    def _count(self, rule: Rule, label: str, count: int, *, blocks: bool = False) -> None:
        key = rule.name, label, blocks
        self._counts[key] = self._counts.get(key, 0) + count

    async def _ask(self, services: Sequence[tuple[Rule, Service]], texts: Sequence[_Question]) -> Texts:
        """Asks all services. Returns the texts that they change. Those of rules that mask are asked one after the
        other: each gets the texts as the one before has masked them."""
        changed: Texts = {}

        async def ask_masking() -> None:
            for rule, service in services:
                if rule.action == "mask":
                    await self._apply(rule, service, texts, changed)

        others = [self._apply(*each, texts, {}) for each in services if each[0].action != "mask"]
        await asyncio.gather(ask_masking(), *others)
        return changed

    async def _apply(self, rule: Rule, service: Service, texts: Sequence[_Question], changed: Texts) -> None:
        asked = [each for each in texts if each.kind in rule.kinds]
        if not asked or (rule.holds_replies and self._blocked is not None):
            return
        verdict = await self._verdict(rule, service, asked, changed)
        if verdict is None:
            self._count(rule, UNAVAILABLE, 1)
        elif verdict.action != "pass":
            self._take(rule, verdict, asked, changed)

    async def _verdict(
        self, rule: Rule, service: Service, asked: Sequence[_Question], changed: Mapping[Place, str]
    ) -> Verdict | None:
        """None: the service does not answer, and the rule lets the reply pass."""
        with_context = rule.action == "block"
        pieces = tuple(
            Piece(
                (each.before if with_context else "") + changed.get(each.place, each.text),
                each.kind,
                f"choices[{each.place[0]}].parts[{each.place[1]}]",
            )
            for each in asked
        )
        try:
            verdict = await service.check(replace(self._checked, pieces=pieces))
            return assignable(verdict, pieces, rule)
        except PolicyUnavailable:
            if rule.fail == "closed" and rule.holds_replies:
                raise
            return None

    def _take(self, rule: Rule, verdict: Verdict, asked: Sequence[_Question], changed: Texts) -> None:
        label, count = label_of(verdict), 1
        blocks = rule.action == "block" or (rule.action == "mask" and verdict.action == "block")
        if rule.action == "mask" and not blocks:
            pairs = zip(asked, verdict.texts or (), strict=True)
            new = [(each, text) for each, text in pairs if text != changed.get(each.place, each.text)]
            if not new:
                return
            count = len(new)
            # Arguments must stay JSON.
            blocks = any(each.kind == "tool_call" and not _may_replace(each.text, text) for each, text in new)
            if rule.mode == "enforce" and not blocks:
                changed.update((each.place, text) for each, text in new)
        self._count(rule, label, count, blocks=blocks)
        if blocks and rule.mode == "enforce":
            self._end(rule, label)


def _kinds_of(services: Sequence[tuple[Rule, Service]]) -> frozenset[TextKind]:
    return frozenset(kind for rule, _ in services for kind in rule.kinds)


def _may_replace(old: str, new: str) -> bool:
    """Whether a text of arguments may become another one: JSON must stay JSON."""
    return is_json(new.encode(errors="surrogatepass")) or not is_json(old.encode(errors="surrogatepass"))


def _with(events: Sequence[ReplyEvent], changed: Texts) -> Iterator[ReplyEvent]:
    """The events with other texts. A changed text is one delta, at the place of the first."""
    done: set[Place] = set()
    for event in events:
        place = (event.choice, event.part) if isinstance(event, PartDelta) else None
        if place is None or place not in changed:
            yield event
        elif place not in done and isinstance(event, PartDelta):
            done.add(place)
            yield replace(event, text=changed[place])


def _text_of(part: Part) -> tuple[TextKind, str] | None:
    match part:
        case Text() | Refusal():
            return "assistant", part.text
        case Thinking():
            return "thinking", part.text
        case ToolCall():
            return "tool_call", part.arguments
        case _:
            return None


def _changed(number: int, choice: Choice, changed: Texts) -> Choice:
    parts = []
    for index, part in enumerate(choice.parts):
        text = changed.get((number, index))
        if text is None:
            parts.append(part)
        elif isinstance(part, ToolCall):
            parts.append(replace(part, arguments=text))
        elif isinstance(part, Text | Refusal | Thinking):
            parts.append(replace(part, text=text))
    return replace(choice, parts=tuple(parts))


class _Unknown:
    """The places of a reply whose parts the gateway does not know. A picture or sound in it is no text."""

    def place_of(self, path: str, text: str) -> TextPlace | InlineMedia:
        del path
        return InlineMedia("application/octet-stream", TextPlace(None)) if is_binary(text) else TextPlace(None)


class _OtherNames:
    """A Masker for values that the reply must not show, although the placeholders of the call are replaced after it.
    A value that the caller sent, too, gets another placeholder."""

    def __init__(self, masker: Masker, restorer: Restorer) -> None:
        self._masker = masker
        self._restorer = restorer

    def placeholder(self, value: str, label: str, *, restore: bool = True) -> str:
        while True:
            name = self._masker.placeholder(value, label, restore=restore)
            if self._restorer.restore(name) == name:
                return name
            value += "\0"
