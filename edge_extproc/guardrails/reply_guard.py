"""Checks and changes one reply: its placeholders become values again, and the rules for replies apply.

The rules see the reply as the provider sent it, with placeholders. So they never find a value that the caller sent
itself. A stream gives the same result as the complete reply, however it is cut: of each part, the text that a rule can
still need is held (reply_window.py), and after it the end of the text that may begin a placeholder.

Thinking that its provider signs is not restored: the provider refuses a changed one in the next turn (docs/adr/254).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, assert_never

from ..model.content import (
    NO_EXTRAS,
    Audio,
    Extras,
    Image,
    Json,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Url,
)
from ..model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from .base import Masker, Restorer, Rule, RuleHit, TextKind
from .body_texts import is_binary
from .reply_window import BlockedText, Held, JsonWindow, RuleWindow, Segment

KINDS_OF_PARTS: dict[str, TextKind] = {
    "text": "assistant",
    "refusal": "assistant",
    "thinking": "thinking",
    "tool_call": "tool_call",
}
_LOGPROBS = frozenset({"logprobs", "logprobsResult", "logprobs_result"})
"""Fields with the tokens of a text. They would show what a rule has masked."""
_OBJECT = re.compile(r'\s*\{\s*["}]')
_MAY_BE_OBJECT = re.compile(r"\s*\{?\s*\Z")
_LONGEST_BEGIN = 64
_MOST_QUEUED = 4096
"""Notes of a part that wait for its text."""
_BLOCKED = Finish("content_filter")

Media: TypeAlias = Image | Audio
Place: TypeAlias = tuple[int, int]
"""The numbers of a choice and a part."""


class RuleSet:
    """The rules for one kind of text. `held`: those that can change or end the reply. `seen`: those that only count, so
    that no text waits for them."""

    __slots__ = ("held", "seen")

    def __bool__(self) -> bool:
        return bool(self.held or self.seen)

    def __init__(self, rules: Sequence[Rule], kind: TextKind | None) -> None:
        """`kind`: None if the text may be of any kind."""
        found = [
            rule
            for rule in rules
            if "reply" in rule.directions and rule.detector and (kind is None or kind in rule.kinds)
        ]
        self.held = [rule for rule in found if _can_change(rule)]
        self.seen = [rule for rule in found if not _can_change(rule)]


def _can_change(rule: Rule) -> bool:
    """Whether a rule can change or end a reply."""
    is_active = rule.mode == "enforce" and rule.action in ("block", "mask")
    return is_active and "reply" in rule.directions and rule.detector is not None


class RuledReply:
    """A ReplyGuard with detectors."""

    def __init__(
        self,
        rules: Sequence[Rule],
        masker: Masker,
        restorer: Restorer | None,
        *,
        signs_thinking: bool = True,
        changes: bool = False,
    ) -> None:
        """`restorer`: None if nothing is restored. `signs_thinking`: the provider's format has signatures of thinking.
        `changes`: the reply can change, although these rules do not change it."""
        self._rules = rules
        self._masker = masker
        self._restorer = restorer
        self._signs_thinking = signs_thinking
        self._sets: dict[TextKind | None, RuleSet] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._by_name = {rule.name: rule for rule in rules}
        self._names: dict[str, str] = {}
        """The names of members that were checked."""
        self._parts: dict[Place, _PartText] = {}
        self._open: dict[Place, None] = {}
        """The parts of a stream that have begun and not ended, in their order."""
        self._choices: dict[int, bool] = {}
        """For each choice of a stream, whether it has finished."""
        self._held = Held()
        self._blocked: RuleHit | None = None
        self._can_block = any(map(_can_change, rules))
        self._changes = changes

    def __repr__(self) -> str:
        return f"RuledReply({len(self._rules)} rules)"

    @property
    def hits(self) -> Sequence[RuleHit]:
        hits = []
        for (name, label), count in self._counts.items():
            rule = self._by_name[name]
            hits.append(RuleHit(name, label, rule.action, rule.mode, "reply", count))
        return hits

    @property
    def blocked(self) -> RuleHit | None:
        return self._blocked

    @property
    def can_block(self) -> bool:
        return self._can_block

    @property
    def strictest(self) -> str:
        return next((rule.name for rule in self._rules if _can_change(rule)), "")

    @property
    def can_change(self) -> bool:
        return self._changes or self._can_block or (self._restorer is not None and self._restorer.longest > 0)

    @property
    def services(self) -> None:
        return None

    # --- a stream

    def checked(self, event: ReplyEvent) -> tuple[ReplyEvent, ...]:
        if self._blocked is not None:
            return ()
        out: list[ReplyEvent] = []
        try:
            for each in self._events(event):
                out.append(each)  # noqa: PERF402 - the events before a block remain
        except BlockedText as block:
            self._block(block)
            out += self.end_of_blocked()
        return tuple(out)

    def _events(self, event: ReplyEvent) -> Iterator[ReplyEvent]:
        match event:
            case PartDelta():
                yield from self._part(event.choice, event.part).add(event.text)
            case PartStarted():
                started = self._started(event)
                self._choices.setdefault(event.choice, False)
                self._open[event.choice, event.part] = None
                yield started
            case PartSigned() | PartNoted():
                if isinstance(event, PartNoted):
                    event = replace(event, extras=self._extras(event.extras))
                    if not event.extras:
                        return
                part = self._parts.get((event.choice, event.part))
                yield from (event,) if part is None else part.queue(event)
            case PartEnded():
                yield from self._ended(event.choice, event.part)
                yield event
            case Finished():
                yield from self._rest(lambda place: place[0] == event.choice)
                self._choices[event.choice] = True
                yield replace(event, finish=self._finish(event.finish), extras=self._extras(event.extras))
            case Ended() | Failed():
                yield from self._rest(lambda _: True)
                yield event
            case ReplyStarted():
                yield from self._reply_started(event)
            case Noted():
                if extras := self._extras(event.extras):
                    yield replace(event, extras=extras)
            case UsageSeen() | Ping() | Garbled():
                yield event
            case _:
                assert_never(event)

    def _reply_started(self, event: ReplyStarted) -> Iterator[ReplyEvent]:
        try:
            extras = self._extras(event.extras)
        except BlockedText:
            yield replace(event, extras=NO_EXTRAS)
            raise
        yield replace(event, extras=extras)

    def _part(self, choice: int, part: int) -> _PartText:
        found = self._parts.get((choice, part))
        if found is None:
            found = self._parts[choice, part] = self._new_part("assistant", choice, part)
        return found

    def _started(self, event: PartStarted) -> PartStarted:
        kind = KINDS_OF_PARTS.get(event.kind)
        if kind is not None:
            self._parts[event.choice, event.part] = self._new_part(kind, event.choice, event.part)
        name = self._name(event.name) if event.name else event.name
        opaque = self._opaque(event.opaque) if event.opaque is not None else None
        media = self._media(event.media) if event.media is not None else None
        return replace(event, name=name, opaque=opaque, media=media, extras=self._extras(event.extras))

    def _ended(self, choice: int, part: int) -> Iterator[ReplyEvent]:
        found = self._parts.get((choice, part))
        if found is not None:
            yield from found.end()
            del self._parts[choice, part]
        self._open.pop((choice, part), None)

    def _rest(self, belongs: Callable[[Place], bool]) -> Iterator[ReplyEvent]:
        """The held text of parts that have not ended."""
        for place in [place for place in self._parts if belongs(place)]:
            found = self._parts.pop(place)
            yield from found.end()

    def _block(self, block: BlockedText) -> None:
        rule = block.rule
        self._blocked = RuleHit(rule.name, block.label, rule.action, rule.mode, "reply", 1)
        self._parts.clear()

    def end_of_blocked(self) -> Iterator[ReplyEvent]:
        """The events that end the stream here, as the provider's own content filter ends it."""
        for choice, part in self._open:
            yield PartEnded(part, choice)
        for choice, is_finished in (self._choices or {0: False}).items():
            if not is_finished:
                yield Finished(_BLOCKED, choice)
        yield Ended()

    # --- a complete reply

    def complete(self, reply: Reply) -> Reply:
        try:
            choices = tuple([self._choice(number, choice) for number, choice in enumerate(reply.choices)])
            extras = self._extras(reply.extras)
        except BlockedText as block:
            self._block(block)
            return blocked_reply(reply)
        return replace(reply, choices=choices, extras=extras)

    def json(self, value: Json) -> Json:
        try:
            return self._walked(value, any_kind=True)
        except BlockedText as block:
            self._block(block)
            return None

    def _choice(self, number: int, choice: Choice) -> Choice:
        parts = tuple([self._whole(part, number, index) for index, part in enumerate(choice.parts)])
        finish = self._finish(choice.finish) if choice.finish is not None else None
        return replace(choice, parts=parts, finish=finish, extras=self._extras(choice.extras))

    def _whole(self, part: Part, choice: int, index: int) -> Part:
        match part:
            case Text() | Refusal():
                text = self._text(part.text, "assistant", choice, index)
                return replace(part, text=text, extras=self._extras(part.extras))
            case Thinking():
                text = self._text(part.text, "thinking", choice, index)
                return replace(part, text=text, extras=self._extras(part.extras))
            case ToolCall():
                arguments = self._text(part.arguments, "tool_call", choice, index)
                return replace(part, name=self._name(part.name), arguments=arguments, extras=self._extras(part.extras))
            case Opaque():
                return self._opaque(part)
            case Image() | Audio():
                return self._media(part)
            case _:
                return part

    def _text(self, text: str, kind: TextKind, choice: int = 0, index: int = 0) -> str:
        return self._checked_text(text, kind, self._ruled(kind), choice, index)

    def _checked_text(self, text: str, kind: TextKind, rules: RuleSet, choice: int = 0, index: int = 0) -> str:
        part = self._new_part(kind, choice, index, rules)
        events = [*part.add(text), *part.end()]
        return "".join(event.text for event in events if isinstance(event, PartDelta))

    # --- both

    def _ruled(self, kind: TextKind | None) -> RuleSet:
        rules = self._sets.get(kind)
        if rules is None:
            rules = self._sets[kind] = RuleSet(self._rules, kind)
        return rules

    def _new_part(self, kind: TextKind, choice: int, part: int, rules: RuleSet | None = None) -> _PartText:
        rules = rules if rules is not None else self._ruled(kind)
        restorer = None if kind == "thinking" and self._signs_thinking else self._restorer
        return _PartText(kind, rules, restorer, self._masker, self._counts, self._held, choice, part)

    def _finish(self, finish: Finish) -> Finish:
        if finish.stop_sequence is None:
            return finish
        return replace(finish, stop_sequence=self._restored(finish.stop_sequence))

    def _restored(self, text: str) -> str:
        return text if self._restorer is None else self._restorer.restore(text)

    def _name(self, name: str) -> str:
        """The name of a tool: a text of the call, but no JSON."""
        rules = self._ruled("tool_call")
        return self._checked_text(name, "other", rules) if rules else self._restored(name)

    def _media(self, part: Media) -> Media:
        """A picture or audio. Of its bytes nothing is checked."""
        source = part.source
        if isinstance(source, Url) and isinstance(url := self._walked(source.url), str):
            source = replace(source, url=url)
        return replace(part, source=source, extras=self._extras(part.extras))

    def _opaque(self, part: Opaque) -> Opaque:
        value = self._walked(part.value)
        return part if value is part.value else replace(part, value=value)

    def _extras(self, extras: Extras) -> Extras:
        if not extras:
            return extras
        kept = {name: value for name, value in extras.items() if name not in _LOGPROBS} if self.can_change else extras
        return {name: self._walked(value) for name, value in kept.items()}

    def _walked(self, value: Json, *, any_kind: bool = False) -> Json:
        """A JSON value with other strings. The same value if none changes. `any_kind`: all rules apply to it."""
        if isinstance(value, str):
            if is_binary(value):
                return value
            rules = self._ruled(None if any_kind else "other")
            changed = self._checked_text(value, "other", rules) if rules else self._restored(value)
            return value if changed == value else changed
        if isinstance(value, list):
            items = [self._walked(item, any_kind=any_kind) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        if isinstance(value, dict):
            members = {
                self._member(name) if any_kind else name: self._walked(item, any_kind=any_kind)
                for name, item in value.items()
            }
            same = len(members) == len(value) and all(members.get(name) is item for name, item in value.items())
            return value if same and members.keys() == value.keys() else members
        return value

    def _member(self, name: str) -> str:
        """The name of a member of a JSON value that is no chat: its names can be texts, too. Lists repeat them."""
        known = self._names.get(name)
        if known is None:
            rules = self._ruled(None)
            known = self._checked_text(name, "other", rules) if rules else self._restored(name)
            self._names[name] = known
        return known


def blocked_reply(reply: Reply) -> Reply:
    """A reply without content, as the provider's own content filter ends it."""
    choices = tuple([Choice((), _BLOCKED) for _ in reply.choices]) or (Choice((), _BLOCKED),)
    return replace(reply, choices=choices, extras=NO_EXTRAS)


class _PartText:
    """The text of one part as it arrives."""

    __slots__ = (
        "_begin",
        "_choice",
        "_counts",
        "_events",
        "_held",
        "_is_json",
        "_kind",
        "_masker",
        "_part",
        "_received",
        "_restorer",
        "_rules",
        "_sent",
        "_tail",
        "_watch",
        "_window",
    )

    def __init__(
        self,
        kind: TextKind,
        rules: RuleSet,
        restorer: Restorer | None,
        masker: Masker,
        counts: Counter[tuple[str, str]],
        held: Held,
        choice: int,
        part: int,
    ) -> None:
        """`restorer`: None if the part is not restored."""
        self._kind: TextKind = kind
        self._rules = rules
        self._restorer = restorer
        self._masker = masker
        self._counts = counts
        self._held = held
        self._choice = choice
        self._part = part
        self._is_json: bool | None = True if kind == "tool_call" else False if kind != "assistant" else None
        """Whether the text is JSON. None: it is not known yet."""
        self._begin = ""
        """The text that does not show yet whether it is JSON."""
        self._window: RuleWindow | None = None
        self._watch: RuleWindow | None = None
        if self._is_json is not None:
            self._open_windows()
        self._tail = ""
        """The end of the checked text, which may begin a placeholder."""
        self._received = 0
        self._sent = 0
        """Characters of the provider's text."""
        self._events: list[tuple[int, ReplyEvent]] = []
        """Events that follow the character of this number."""

    def _open_windows(self) -> None:
        window = JsonWindow if self._is_json else RuleWindow
        if self._rules.held:
            self._window = window(self._rules.held, self._kind, self._masker, self._counts, self._held)
        if self._rules.seen:
            self._watch = window(self._rules.seen, self._kind, self._masker, self._counts, None)

    def add(self, text: str) -> Iterator[ReplyEvent]:
        self._received += len(text)
        if self._is_json is None:
            text = self._begin + text
            if len(text) < _LONGEST_BEGIN and _MAY_BE_OBJECT.match(text):
                self._begin = text
                return
            self._decide(text)
        if self._watch is not None:
            self._watch.add(text)
        if self._window is None:
            yield from self._restored((Segment(text, len(text)),), is_end=False)
            return
        yield from self._all_restored(self._window.add(text), is_end=False)

    def _decide(self, text: str) -> None:
        """A text in a JSON mode is an object. Its strings have escapes, as those of arguments."""
        self._begin = ""
        self._is_json = _OBJECT.match(text) is not None
        self._open_windows()

    def end(self) -> Iterator[ReplyEvent]:
        begin = self._begin
        if self._is_json is None:
            self._decide(begin)
        if self._watch is not None:
            self._watch.add(begin)
            self._watch.end()
        if self._window is None:
            yield from self._restored((Segment(begin, len(begin)),), is_end=True)
        else:
            segments = [*self._window.add(begin), *self._window.end()]
            yield from self._all_restored(segments, is_end=True)
        for _, event in self._events:
            yield event
        self._events.clear()

    def _all_restored(self, segments: Sequence[Segment], *, is_end: bool) -> Iterator[ReplyEvent]:
        """Raises BlockedText after the text before the finding."""
        yield from self._restored(segments, is_end=is_end or (bool(segments) and segments[-1].block is not None))
        if segments and segments[-1].block is not None:
            raise segments[-1].block

    def _restored(self, segments: Iterable[Segment], *, is_end: bool) -> Iterator[ReplyEvent]:
        parts: list[str] = []
        restorer = self._restorer
        for segment in segments:
            if restorer is None:
                parts.append(segment.text)
            elif segment.is_new:
                parts += (self._value(restorer, self._tail), segment.text)
                self._tail = ""
            else:
                text = self._tail + segment.text
                end = restorer.open_end(text) if restorer.longest else 0
                self._tail = text[len(text) - end :]
                parts.append(self._value(restorer, text[: len(text) - end]))
            self._sent += segment.length
        if is_end and self._tail and restorer is not None:
            parts.append(self._value(restorer, self._tail))
            self._tail = ""
        if text := "".join(parts):
            yield PartDelta(self._part, text, self._choice)
        while self._events and self._events[0][0] <= self._sent - len(self._tail):
            yield self._events.pop(0)[1]

    def _value(self, restorer: Restorer, text: str) -> str:
        return restorer.restore_json(text) if self._is_json else restorer.restore(text)

    def queue(self, event: ReplyEvent) -> Iterator[ReplyEvent]:
        """An event that follows the text so far."""
        if self._received == self._sent - len(self._tail) and not self._events:
            yield event
            return
        self._events.append((self._received, event))
        if len(self._events) > _MOST_QUEUED:
            yield self._events.pop(0)[1]
