"""What reaches the caller of a streamed reply, in a toy dialect: one word a line, and `done` ends it."""

from edge_extproc.codecs.frame import Frame
from edge_extproc.exchange.relay import MAX_FOLDED, CrossRelay, RawRelay
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Fold,
    Garbled,
    PartDelta,
    PartStarted,
    ReplyStarted,
    UsageSeen,
)
from edge_extproc.model.usage import Usage

TRUNCATED = Fault(502, "api", "broke off", "truncated_stream")
BROKEN = Fault(503, "overloaded", "busy", "overloaded")
SAYS = {
    b"start": ReplyStarted("1", "toy"),
    b"part": PartStarted(0, "text"),
    b"hello": PartDelta(0, "hello"),
    b"page": PartDelta(0, "x" * 4096),
    b"finish": Finished(Finish("stop")),
    b"finish2": Finished(Finish("length")),
    b"usage": UsageSeen(Usage(input=3, output=2)),
    b"done": Ended(),
    b"error": Failed(BROKEN),
}


class ToyReader:
    def __init__(self):
        self.tail = b""
        self.ended = False

    def frames(self, data):
        *lines, self.tail = (self.tail + data).split(b"\n")
        return [Frame(line, line + b"\n") for line in lines]

    def read(self, frame):
        if frame.data == b"":
            return []
        event = SAYS.get(frame.data, Garbled("?"))
        self.ended = self.ended or isinstance(event, Ended)
        return [event]

    def close(self):
        tail = [Frame(self.tail, self.tail)] if self.tail else []
        events = [e for f in tail for e in self.read(f)]
        return tail, events + ([] if self.ended else [Failed(TRUNCATED)])


class ToyWriter:
    def write(self, event):
        match event:
            case PartDelta():
                return b"<" + event.text.encode() + b">"
            case Ended():
                return b"<end>"
            case Failed():
                return b"<error " + event.fault.code.encode() + b">"
            case _:
                return b""


def raw(hide_usage=False):
    return RawRelay(ToyReader(), ToyWriter(), hide_usage=hide_usage)


def cross():
    return CrossRelay(ToyReader(), ToyWriter())


WHOLE = b"start\npart\nhello\nfinish\nusage\ndone\n"


def test_the_raw_lane_passes_the_providers_bytes():
    relay = raw()

    assert WHOLE == relay.feed(WHOLE) + relay.close()
    assert (Usage(input=3, output=2), "toy", 5, True) == (
        relay.tally.usage,
        relay.tally.model,
        relay.tally.text_length,
        relay.tally.ended,
    )


def test_whoever_wants_to_keep_the_reply_gets_it_whole_on_both_lanes():
    for relay in (
        RawRelay(ToyReader(), ToyWriter(), hide_usage=True, fold=Fold("toy")),
        CrossRelay(ToyReader(), ToyWriter(), fold=Fold("toy")),
    ):
        relay.feed(WHOLE)
        reply = relay.tally.fold.reply()

        assert ("toy", "hello", "stop") == (
            reply.dialect,
            reply.choices[0].parts[0].text,
            reply.choices[0].finish.reason,
        )
        assert Usage(input=3, output=2) == reply.usage


def test_what_cannot_be_folded_or_is_too_long_passes_and_is_not_kept():
    without_a_part = WHOLE.replace(b"part\n", b"")
    relay = RawRelay(ToyReader(), ToyWriter(), hide_usage=False, fold=Fold("toy"))
    assert without_a_part == relay.feed(without_a_part)
    assert relay.tally.fold is None

    long = WHOLE.replace(b"hello\n", b"page\n" * (MAX_FOLDED // 4096) + b"hello\n")
    relay = RawRelay(ToyReader(), ToyWriter(), hide_usage=False, fold=Fold("toy"))
    assert long == relay.feed(long)
    assert relay.tally.fold is None


def test_a_usage_frame_that_only_we_asked_for_is_taken_out():
    relay = raw(hide_usage=True)

    assert WHOLE.replace(b"usage\n", b"") == relay.feed(WHOLE) + relay.close()
    assert Usage(input=3, output=2) == relay.tally.usage


def test_only_whole_frames_pass_so_that_an_error_can_follow():
    relay = raw()

    assert b"start\n" == relay.feed(b"start\nhel")
    assert b"<error truncated_stream>" == relay.close()


def test_a_stream_without_its_end_gets_an_error_and_no_end_on_both_lanes():
    for relay in (raw(), cross()):
        out = relay.feed(b"start\npart\nhello\n") + relay.close()

        assert out.endswith(b"<error truncated_stream>")
        assert TRUNCATED == relay.tally.failed
        assert b"" == relay.close()


def test_nothing_follows_an_error_that_the_provider_told():
    relay = raw()

    assert b"start\nerror\n" == relay.feed(b"start\nerror\ndone\n")
    assert b"" == relay.feed(b"hello\n") + relay.close()
    assert BROKEN == relay.tally.failed


def test_the_cross_lane_tells_an_error_in_the_callers_words():
    relay = cross()

    assert (
        b"<hello><error overloaded>" == relay.feed(b"start\nhello\nerror\ndone\n") + relay.feed(b"x\n") + relay.close()
    )


def test_nothing_follows_the_end_on_the_cross_lane():
    relay = cross()

    assert b"<hello><end>" == relay.feed(b"hello\ndone\nhello\ndone\n") + relay.close()


def test_an_end_without_its_delimiter_is_an_end():
    assert b"<end>" == (relay := cross()).feed(b"done") + relay.close()
    assert b"done" == (relay := raw()).feed(b"done") + relay.close()


def test_the_first_of_two_finishes_counts_and_garbled_frames_are_counted():
    relay = cross()
    relay.feed(b"finish\nfinish2\nnonsense\n")

    assert ("stop", 1) == (relay.tally.finish.reason, relay.tally.garbled)


def test_a_relay_that_must_give_up_says_so_once():
    for relay in (raw(), cross()):
        assert b"<error overloaded>" == relay.fail(BROKEN)
        assert b"" == relay.fail(BROKEN) + relay.feed(b"hello\n") + relay.close()


def test_watches_get_each_frame_of_a_translated_stream_also_the_last_without_a_delimiter():
    frames = []
    relay = CrossRelay(ToyReader(), ToyWriter(), watches=[frames.append])
    relay.feed(b"start\npart\nhel")
    relay.feed(b"lo\nfinish")
    relay.close()

    assert [b"start", b"part", b"hello", b"finish"] == [frame.data for frame in frames]
