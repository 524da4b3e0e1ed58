"""A guarded reply: the same as a stream, however it is cut, and as a complete reply."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reply_guarding import EVERY_KIND, KEY, guard, masker, passed, rule

from edge_extproc.guardrails.reply_window import MAX_HELD
from edge_extproc.model.content import Audio, Image, Inline, Opaque, Part, Refusal, Text, Thinking, ToolCall, Url
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartSigned,
    PartStarted,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    fold,
    unfold,
)
from edge_extproc.model.usage import Usage

EMAIL = 'bob "the builder" <bob@example.com>'
CALL, (EMAIL_NAME, PHONE_NAME) = masker(EMAIL, "+49 30 1234567")
INVENTED = "EMAIL_bcdfghjkmnpq"
STOP = Finish("stop")


def reply_of(*choices: Sequence[Part], finish: Finish = STOP) -> Reply:
    return Reply("toy", "r1", "m", tuple(Choice(tuple(parts), finish) for parts in choices), Usage(input=3, output=2))


def cut(events: Sequence[ReplyEvent], size: int) -> Iterator[ReplyEvent]:
    """The events with deltas of `size` characters."""
    for event in events:
        if isinstance(event, PartDelta):
            for start in range(0, len(event.text), size):
                yield replace(event, text=event.text[start : start + size])
        else:
            yield event


def cut_at(events: Sequence[ReplyEvent], sizes: Sequence[int]) -> Iterator[ReplyEvent]:
    turns = itertools.cycle(sizes)
    for event in events:
        if isinstance(event, PartDelta):
            start = 0
            while start < len(event.text):
                size = next(turns)
                yield replace(event, text=event.text[start : start + size])
                start += size
        else:
            yield event


def check_order(events: Sequence[ReplyEvent]) -> None:
    """Parts begin once and end once, in the order of a stream, and nothing follows the end."""
    begun: set[tuple[int, int]] = set()
    opened: set[tuple[int, int]] = set()
    finished: set[int] = set()
    assert isinstance(events[0], ReplyStarted)
    assert isinstance(events[-1], Ended)
    assert sum(isinstance(event, Ended) for event in events) == 1
    for event in events:
        match event:
            case PartStarted():
                place = (event.choice, event.part)
                assert place not in begun
                assert event.choice not in finished
                begun.add(place)
                opened.add(place)
            case PartDelta() | PartSigned() | PartNoted():
                assert (event.choice, event.part) in opened
            case PartEnded():
                opened.remove((event.choice, event.part))
            case Finished():
                assert event.choice not in finished
                assert not any(choice == event.choice for choice, _ in opened)
                finished.add(event.choice)
            case _:
                pass
    assert not opened


# --- placeholders become values

TEXT = f"Write to {EMAIL_NAME}, not {INVENTED}, or call {PHONE_NAME}{EMAIL_NAME}x EMAIL_ EMAI"
RESTORED = TEXT.replace(EMAIL_NAME, EMAIL).replace(PHONE_NAME, "+49 30 1234567")
ARGUMENTS = json.dumps({"to": EMAIL_NAME, "note": f"\n{PHONE_NAME} \u00e9 {INVENTED}"})
MASKED = reply_of(
    [Text(TEXT), ToolCall("c1", "mail", ARGUMENTS), Refusal(f"no {EMAIL_NAME}")],
    [Text(f"{PHONE_NAME}"), Opaque("toy", "search", {"query": f"who is {EMAIL_NAME}", "n": [1, None]})],
)


def check_restored(reply: Reply) -> None:
    text, call, refusal = reply.choices[0].parts
    other, search = reply.choices[1].parts
    assert text == Text(RESTORED)
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"to": EMAIL, "note": f"\n+49 30 1234567 \u00e9 {INVENTED}"}
    assert refusal == Refusal(f"no {EMAIL}")
    assert other == Text("+49 30 1234567")
    assert search == Opaque("toy", "search", {"query": f"who is {EMAIL}", "n": [1, None]})


def test_a_complete_reply_has_the_values_of_its_caller() -> None:
    check_restored(guard(call=CALL).complete(MASKED))


@pytest.mark.parametrize("rules", [(), (rule("never-there", "block"),)], ids=["no rule", "a rule without a finding"])
def test_a_stream_has_them_across_every_cut(rules: tuple[object, ...]) -> None:
    for size in range(1, len(TEXT)):
        events = passed(guard(*rules, call=CALL), cut(list(unfold(MASKED)), size))  # type: ignore[arg-type]
        check_order(events)
        check_restored(fold("toy", events))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_any_cuts_give_the_same(sizes: list[int]) -> None:
    check_restored(fold("toy", passed(guard(call=CALL), cut_at(list(unfold(MASKED)), sizes))))


def test_no_more_is_held_than_a_placeholder() -> None:
    checker, received, sent = guard(call=CALL), 0, 0
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text")])
    text = ("EMAIL_" + EMAIL_NAME[:-1] + ". ") * 20
    for char in text:
        received += 1
        sent += sum(len(e.text) for e in checker.checked(PartDelta(0, char)) if isinstance(e, PartDelta))
        assert received - sent < CALL.restorer.longest
    assert received - sent == 0


def test_a_placeholder_in_a_url_and_a_name_is_restored() -> None:
    reply = reply_of([Text(f"https://x.example/?q={PHONE_NAME}&r=1"), ToolCall("1", f"get_{PHONE_NAME}", "{}")])
    url, call = guard(call=CALL).complete(reply).choices[0].parts

    assert url == Text("https://x.example/?q=+49 30 1234567&r=1")
    assert isinstance(call, ToolCall)
    assert call.name == "get_+49 30 1234567"


@pytest.mark.parametrize(
    "part",
    [
        ToolCall("1", "send_secret", "{}"),
        Image(Url("https://x.example/?q=secret")),
        Audio(Url("https://x.example/secret")),
        Image(Url("https://x.example/"), extras={"note": "secret"}),
    ],
)
def test_the_name_of_a_call_and_the_url_of_a_picture_are_texts(part: Part) -> None:
    for action in ("block", "mask"):
        whole, stream = guard(rule("secret", action)), guard(rule("secret", action))
        reply = whole.complete(reply_of([part]))
        events = passed(stream, unfold(reply_of([part])))

        assert "secret" not in repr((reply, events))
        assert (whole.blocked is not None) == (stream.blocked is not None) == (action == "block")
        assert [hit.action for hit in (*whole.hits, *stream.hits)] == [action, action]


def test_the_text_of_a_json_mode_stays_json() -> None:
    """Whoever asked for JSON gets an object, whatever the value contains."""
    text = json.dumps({"contact": EMAIL_NAME})
    for size in (1, 3, 7, 100):
        events = passed(guard(call=CALL), cut(list(unfold(reply_of([Text(f" {text}")]))), size))
        (part,) = fold("toy", events).choices[0].parts
        assert isinstance(part, Text)
        assert json.loads(part.text) == {"contact": EMAIL}


def test_thinking_that_its_provider_signs_stays_as_it_is() -> None:
    """A provider refuses thinking that was changed."""
    reply = reply_of([Thinking(f"mail {EMAIL_NAME}", "signature")])

    assert guard(call=CALL).complete(reply) == reply
    assert fold("toy", passed(guard(call=CALL), cut(list(unfold(reply)), 3))).choices == reply.choices


def test_thinking_of_a_format_without_signatures_is_restored() -> None:
    reply = reply_of([Thinking(f"mail {EMAIL_NAME}")])
    expected = (Thinking(f"mail {EMAIL}"),)

    assert guard(call=CALL, signs_thinking=False).complete(reply).choices[0].parts == expected
    events = passed(guard(call=CALL, signs_thinking=False), cut(list(unfold(reply)), 3))
    assert fold("toy", events).choices[0].parts == expected


def test_notes_and_citations_are_restored() -> None:
    note = {"citations": [{"cited_text": f"by {EMAIL_NAME}"}], "logprobs": [{"token": "EM"}]}
    expected = {"citations": [{"cited_text": f"by {EMAIL}"}]}
    events = passed(
        guard(call=CALL),
        [
            ReplyStarted("r", "m", extras={"instructions": EMAIL_NAME}),
            PartStarted(0, "text", extras={"x": EMAIL_NAME}),
            PartDelta(0, "EMAIL"),
            PartNoted(0, note),
            PartEnded(0),
            Noted({"x": EMAIL_NAME}, 0),
            Finished(Finish("stop_sequence", stop_sequence=EMAIL_NAME), extras=note),
            Ended(),
        ],
    )

    assert events == [
        ReplyStarted("r", "m", extras={"instructions": EMAIL}),
        PartStarted(0, "text", extras={"x": EMAIL}),
        PartDelta(0, "EMAIL"),
        PartNoted(0, expected),
        PartEnded(0),
        Noted({"x": EMAIL}, 0),
        Finished(Finish("stop_sequence", stop_sequence=EMAIL), extras=expected),
        Ended(),
    ]


def test_a_reply_of_another_tenant_is_not_restored() -> None:
    other = KEY.masker("umbrella")
    other.placeholder(EMAIL, "email")

    assert guard(call=other).complete(MASKED) == MASKED


def test_a_stream_that_breaks_off_has_all_text_before_the_error() -> None:
    broken = Failed(Fault(502, "api", "broke off", "truncated_stream"))
    events = passed(guard(call=CALL), [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "EMAIL_"), broken])

    assert events[2:] == [PartDelta(0, "EMAIL_"), broken]


# --- rules


def guarded(pieces: Sequence[str], *rules: object, kind: str = "text") -> list[ReplyEvent]:
    events: list[ReplyEvent] = [
        ReplyStarted("r", "m"),
        PartStarted(0, kind, "c1" if kind == "tool_call" else None),  # type: ignore[arg-type]
        *(PartDelta(0, piece) for piece in pieces),
        PartEnded(0),
        UsageSeen(Usage(input=1, output=1)),
        Finished(STOP),
        Ended(),
    ]
    out = passed(guard(*rules, call=CALL), events)  # type: ignore[arg-type]
    check_order(out)
    return out


def text_of(events: Sequence[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, PartDelta))


@pytest.mark.parametrize("before", [0, 1, 23, 24, 25, 60, 200])
@pytest.mark.parametrize("size", [1, 2, 5, 30, 1000])
def test_a_block_ends_the_stream_before_its_finding(before: int, size: int) -> None:
    text = "." * before + "secret" + "." * 100
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    events = guarded(pieces, rule("secret"))

    assert text_of(events) == "." * before
    assert events[-3:] == [PartEnded(0), Finished(Finish("content_filter")), Ended()]


def test_nothing_follows_a_block() -> None:
    checker = guard(rule("secret"))
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "secret" + "." * 90)])

    assert checker.blocked is not None
    assert passed(checker, [PartDelta(0, "x"), PartEnded(0), Finished(STOP), UsageSeen(Usage()), Ended()]) == []


def test_a_block_ends_all_open_parts_and_choices() -> None:
    events = passed(
        guard(rule("secret")),
        [
            ReplyStarted("r", "m"),
            PartStarted(0, "text"),
            PartStarted(0, "text", choice=1),
            PartDelta(0, "done"),
            PartEnded(0),
            Finished(STOP),
            PartStarted(1, "tool_call", "c", "f", choice=1),
            PartDelta(0, "secret" + "." * 99, 1),
        ],
    )

    check_order(events)
    assert [e for e in events if isinstance(e, Finished)] == [Finished(STOP), Finished(Finish("content_filter"), 1)]


def test_a_blocked_complete_reply_has_no_content() -> None:
    checker = guard(rule("secret", name="no-secrets"))
    reply = checker.complete(reply_of([Text("fine"), ToolCall("1", "f", '{"x":"a secret"}')], [Text("fine")]))

    assert [choice.parts for choice in reply.choices] == [(), ()]
    assert {choice.finish for choice in reply.choices} == {Finish("content_filter")}
    assert reply.usage == Usage(input=3, output=2)
    assert checker.blocked is not None
    assert (checker.blocked.rule, checker.blocked.label, checker.blocked.direction) == ("no-secrets", "word", "reply")


@given(
    st.text("ab1 ", max_size=120),
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.sampled_from(["assistant", "json"]),
)
def test_the_cuts_of_a_stream_do_not_change_what_rules_do(text: str, sizes: list[int], form: str) -> None:
    rules = [rule("a{1,5}b", "mask", 6), rule("b1", "mask", 2), rule("11a", "block", 3), rule("b 1", "flag", 3)]
    part = Text(text) if form == "assistant" else ToolCall("1", "f", json.dumps({"x\n": text}))
    whole, streamed = guard(*rules), guard(*rules)
    reply = whole.complete(reply_of([part]))
    again = fold("toy", passed(streamed, cut_at(list(unfold(reply_of([part]))), sizes)))

    assert (whole.blocked is None) == (streamed.blocked is None)
    if whole.blocked is None:
        assert reply.choices == again.choices
        assert sorted(map(str, whole.hits)) == sorted(map(str, streamed.hits))


def test_a_mask_replaces_a_finding_and_is_not_restored() -> None:
    """Also if the caller has sent the same value."""
    name = KEY.masker("acme").placeholder("+49 30 1234567", "phone", restore=False)
    checker = guard(rule(r"\+49 [0-9 ]+", "mask", label="phone"), call=CALL)
    reply = checker.complete(reply_of([Text(f"call +49 30 1234567, {PHONE_NAME}")]))

    assert reply.choices[0].parts == (Text(f"call {name}, +49 30 1234567"),)
    assert [(hit.action, hit.count) for hit in checker.hits] == [("mask", 1)]


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_a_rule_that_only_counts_holds_nothing(mode: str) -> None:
    action = "flag" if mode == "enforce" else "block"
    checker = guard(rule("secret", action, 500, mode=mode))
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text")])

    assert checker.checked(PartDelta(0, "a secret")) == (PartDelta(0, "a secret"),)
    passed(checker, [PartEnded(0), Finished(STOP), Ended()])
    assert [(hit.action, hit.mode, hit.count) for hit in checker.hits] == [(action, mode, 1)]
    assert not checker.can_block


def test_each_rule_that_only_counts_counts_each_finding_once() -> None:
    rules = [rule("secret", "flag", 12), rule("secret", "mask", 12, mode="shadow"), rule("a sec", "flag", 12)]
    for size in range(1, 9):
        checker = guard(*rules)
        text = "it is a secret" + "." * 30 + "secret"
        pieces = [PartDelta(0, text[start : start + size]) for start in range(0, len(text), size)]
        passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text"), *pieces, PartEnded(0)])
        assert sorted((hit.rule, hit.count) for hit in checker.hits) == [
            ("flag-a sec", 1),
            ("flag-secret", 2),
            ("mask-secret", 2),
        ]


def test_a_stream_holds_at_most_a_quarter_more_than_the_longest_rule() -> None:
    checker, received, sent = guard(rule("secret", "block", 40), rule("never", "mask", 8)), 0, 0
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text")])
    for _ in range(500):
        received += 3
        sent += sum(len(e.text) for e in checker.checked(PartDelta(0, "abc")) if isinstance(e, PartDelta))
        assert received - sent <= 40 + 40 // 4 + 1 + 3


def test_a_rule_that_needs_too_much_text_blocks() -> None:
    checker = guard(rule("secret", "mask", 1 << 30))
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text"), PartStarted(1, "text")])
    half = PartDelta(0, "." * (MAX_HELD // 2))

    assert passed(checker, [half]) == []
    events = passed(checker, [replace(half, part=1), PartDelta(1, "..")])
    assert events == [PartEnded(0), PartEnded(1), Finished(Finish("content_filter")), Ended()]
    assert checker.blocked is not None
    assert checker.blocked.label == "too_long"


def test_a_rule_that_only_counts_never_blocks_a_long_reply() -> None:
    checker = guard(rule("secret", "flag", 1 << 30))
    text = "." * MAX_HELD
    events = [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, text), PartDelta(0, "secret"), PartEnded(0)]

    assert len(passed(checker, events)) == len(events)
    assert [hit.count for hit in checker.hits] == [1]


def test_a_rule_applies_to_its_kinds_and_directions() -> None:
    of_calls = rule("secret", kinds=frozenset({"tool_call"}))
    of_requests = rule("secret", directions=frozenset({"request"}))
    text = reply_of([Text("a secret")])

    assert guard(of_calls, of_requests).complete(text) == text
    assert guard(of_calls).complete(reply_of([ToolCall("1", "f", "secret")])).choices[0].parts == ()
    assert not guard(of_requests).can_block


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a":"x\\nbob@b.cc\\n"}', {"a": "x\nEMAIL\n"}),
        ('{"a":"\\"bob@b.cc\\""}', {"a": '"EMAIL"'}),
        ('{"a":"\\u0062ob@b.cc \\ud83d\\ude00"}', {"a": "EMAIL \U0001f600"}),
        ('{"a":"c:\\\\bob@b.cc"}', {"a": "c:\\EMAIL"}),
        ('{"bob@b.cc":1,"b":[4111,"4111"]}', {"EMAIL": 1, "b": ["CARD", "CARD"]}),
        ('{"pass":"hunter2","x":1}', {"WORD": "WORD", "x": 1}),
    ],
)
def test_masked_arguments_stay_json(arguments: str, expected: object) -> None:
    rules = [
        rule(r"[a-z]+@[a-z]+\.cc", "mask", label="email"),
        rule(r"\b4111\b", "mask", label="card"),
        rule(r'pass":"\w+', "mask", label="word"),
    ]
    for size in (1, 2, 3, 100):
        pieces = [arguments[start : start + size] for start in range(0, len(arguments), size)]
        masked = text_of(guarded(pieces, *rules, kind="tool_call"))
        assert "bob" not in masked
        for label in ("EMAIL", "CARD", "WORD"):
            masked = _without_hashes(masked, label)
        assert json.loads(masked) == expected


def _without_hashes(text: str, label: str) -> str:
    before, *rest = text.split(f"{label}_")
    return before + "".join(label + part[12:] for part in rest)


def test_the_notes_of_a_part_follow_its_text() -> None:
    note, signature = PartNoted(0, {"citation": 1}), PartSigned(0, "s")
    events = passed(
        guard(rule("secret")),
        [
            ReplyStarted("r", "m"),
            PartStarted(0, "text"),
            PartDelta(0, "before"),
            note,
            PartDelta(0, "." * 50),
            signature,
            PartEnded(0),
            Finished(STOP),
            Ended(),
        ],
    )

    texts = [event.text if isinstance(event, PartDelta) else event for event in events]
    place = texts.index(note)
    assert "".join(text for text in texts[:place] if isinstance(text, str)).startswith("before")
    assert texts[-4:] == [signature, PartEnded(0), Finished(STOP), Ended()]


def test_a_finding_is_not_hidden_by_one_that_begins_in_the_sent_text() -> None:
    text = "a" + "Xa" * 31
    for size in range(1, 12):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        masked = text_of(guarded(pieces, rule("aXa", "mask", 5)))
        assert "a" not in re.sub("WORD_[a-z]{12}", "", masked)


def test_a_delta_of_a_part_that_never_began_is_checked() -> None:
    checker = guard(rule("secret"), call=CALL)

    assert passed(checker, [PartDelta(3, "a secret" + "." * 99), Ended()])[-1] == Ended()
    assert checker.blocked is not None


def test_pictures_pass() -> None:
    picture = Image(Inline("image/png", "AAAA"))

    assert guard(rule("secret"), call=CALL).complete(reply_of([picture])).choices[0].parts == (picture,)


def test_a_note_after_the_last_text_of_a_part_follows_it() -> None:
    note = PartNoted(0, {"citation": 1})
    events = passed(
        guard(rule("secret", longest=40)), [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "x"), note]
    )
    assert events[2:] == []
    rest = guard(rule("secret", longest=40), call=CALL)
    begun = [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "{"), note, PartEnded(0)]
    assert passed(rest, begun)[2:] == [PartDelta(0, "{"), note, PartEnded(0)]


def test_a_finding_within_another_one_is_masked_with_it() -> None:
    reply = guard(rule("a secret", "mask"), rule("secret", "mask")).complete(reply_of([Text("a secret.")]))
    (part,) = reply.choices[0].parts

    assert isinstance(part, Text)
    assert re.fullmatch(r"WORD_[a-z]{12}\.", part.text)


def test_escapes_that_json_does_not_have_stay() -> None:
    rules = [rule("secret", "mask")]
    for size in (1, 2, 50):
        arguments = '{"a":"\\x \\ud83d secret \\q"'
        pieces = [arguments[start : start + size] for start in range(0, len(arguments), size)]
        masked = text_of(guarded(pieces, *rules, kind="tool_call"))
        assert re.sub("WORD_[a-z]{12}", "secret", masked) == arguments


def test_few_notes_wait_for_a_text() -> None:
    checker = guard(rule("secret", longest=1 << 16))
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "waits")])
    notes = [PartNoted(0, {"citation": n}) for n in range(5000)]

    assert passed(checker, notes) == notes[: 5000 - 4096]


def test_extras_and_searches_are_checked() -> None:
    secret = Opaque("toy", "search", {"results": [{"snippet": "a secret"}]})
    checker = guard(rule("secret"))
    events = passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "opaque", opaque=secret), Ended()])

    assert events == [ReplyStarted("r", "m"), Finished(Finish("content_filter")), Ended()]
    assert guard(rule("secret")).complete(reply_of([secret])).choices[0].parts == ()
    start = ReplyStarted("r", "m", extras={"x": "secret"})
    assert passed(guard(rule("secret")), [start])[0] == ReplyStarted("r", "m")


def test_nothing_shows_texts() -> None:
    checker = guard(rule("secret"), call=CALL)
    passed(checker, [ReplyStarted("r", "m"), PartStarted(0, "text"), PartDelta(0, "the secret text" * 9)])

    assert "the" not in repr(checker)
    assert "secret text" not in repr(checker.blocked) + repr(checker.hits)
    assert "assistant" in EVERY_KIND
