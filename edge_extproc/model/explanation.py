"""Why a request went as it did: what the gateway decided, for the ledger and the page of the request.

It has names, numbers and times, and no text of a prompt or a reply. The number and the length of its values are
bounded, whatever a caller sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

Credential: TypeAlias = Literal["key", "token", "certificate"]
"""What a caller was recognised by."""
ChosenBy: TypeAlias = Literal["model", "rule", "header"]
"""Where the strategy came from: the model's configuration, one of its routing rules, or a header of the caller."""
WhyLeftOut: TypeAlias = Literal["circuit", "capability", "rights", "account", "hedge"]
"""circuit: it failed recently. capability: it cannot take this call. rights: the caller may not use it. account: its
account lacks what the call names. hedge: a hedged call has two candidates."""

# The most entries of each list, and characters of each text.
MOST_ENTRIES = 16
MOST_TEXT = 160


class ExplainedLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit that applied. Amounts are requests, tokens, micro-dollars or seconds, by `measure`."""

    rule: str
    """For example: dollars per day of tenant acme."""
    measure: str
    maximum: int
    used: int
    """Before this request, with the reservations of others in progress."""
    reserved: int
    settled: int
    """What counts in the end."""


class ExplainedCandidate(msgspec.Struct, frozen=True, omit_defaults=True):
    provider: str
    model: str
    score: float | None = None
    """By which the strategy has ordered: expected US dollars, or average seconds. None: it has none."""
    weight: int = 1
    probe: bool = False
    """Its circuit is half open, and this request was the probe."""


class LeftOutCandidate(msgspec.Struct, frozen=True, omit_defaults=True):
    provider: str
    model: str
    why: WhyLeftOut
    detail: str = ""
    """circuit: for how many seconds. capability: the field that its format lacks."""


class ExplainedAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """Times are milliseconds from the beginning of the request. None: not known."""

    provider: str
    model: str
    verdict: str
    """ok, failed or unknown."""
    status: int | None = None
    reason: str = ""
    """The gateway's code for the failure."""
    began: int | None = None
    first_byte: int | None = None
    """When the response headers came."""
    first_token: int | None = None
    ended: int | None = None
    account_problem: str | None = None
    """What the provider reported about the gateway's account."""


PromptCacheReason: TypeAlias = Literal["first", "unchanged", "changed", "provider", "unmarked", "idle", "evicted"]
"""Why a provider read so much of a prompt from its prompt cache. first: no earlier turn is known. unchanged: the prompt
only grew, and nothing was lost. changed: a segment of the earlier prompt has changed. provider: the turn before went to
another provider or model. The others: nothing has changed, but tokens were lost. unmarked: the provider caches only
what a caller marks, and nothing is marked. idle: the turn before was more than five minutes ago. evicted: the provider
has not kept it, or its request reached another machine of the provider."""


class ExplainedPromptCache(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: PromptCacheReason
    segment: str
    """The first one that changed, in the caller's spelling: tools[2], system, messages[4]."""
    unchanged: int
    """Segments at the beginning of the prompt that are the same as in the turn before."""
    segments: int
    """Segments of this prompt."""
    readable: int
    """Tokens of the earlier prompt, which the provider could have read if nothing had changed."""
    read: int
    lost: int
    """Tokens that could have been read and were not. 0 also where a provider would not have cached so few."""
    dollars: str | None
    """What the lost tokens have cost more. None: nothing was lost, or a price is not known."""
    idle_seconds: int
    """Since the turn before."""


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    caller: Credential
    roles: tuple[str, ...] | None = None
    refusal: str | None = None
    """The text of the gateway's own refusal, if it names a limit or a right."""
    limits: tuple[ExplainedLimit, ...] = ()
    strategy: str | None = None
    """None: no plan was made."""
    chosen_by: ChosenBy = "model"
    rule: int = 0
    """The number of the routing rule that applied, from 1. 0: none."""
    affinity: bool = False
    """The first candidate is the one that has cached the beginning of this prompt."""
    hedged: bool = False
    candidates: tuple[ExplainedCandidate, ...] = ()
    """In the order in which they are tried."""
    left_out: tuple[LeftOutCandidate, ...] = ()
    attempts: tuple[ExplainedAttempt, ...] = ()
    lane: str | None = None
    """raw: the caller's bytes were passed on. cross: the request was translated."""
    dropped: tuple[str, ...] = ()
    """Fields of the request that the provider's format has no place for."""
    lost: tuple[str, ...] = ()
    """Parts of the reply that the caller's format has no place for."""
    cache_tier: str | None = None
    cache_reason: str | None = None
    """Why the reply did not come from the cache."""
    costs: dict[str, str] = {}
    """US dollars by kind of token. Their sum is the cost of the request."""
    prompt_cache: ExplainedPromptCache | None = None
    """None: nobody has asked for it, or the usage is not known."""
    agent_us: int = 0
    """Microseconds that the gateway itself has worked on the request."""
    more: int = 0
    """The number of entries that were left out of the lists, because they are too many."""


def bounded(text: str) -> str:
    """The text without what JSON cannot hold or a database refuses, and not too long."""
    text = text[:MOST_TEXT]
    return text if text.isascii() and text.isprintable() else _clean(text)


def bounded_texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple([bounded(text) for text in texts][:MOST_ENTRIES])


def _clean(text: str) -> str:
    encodable = text.encode("utf-8", "backslashreplace").decode()
    return "".join([each if each.isprintable() else "\ufffd" for each in encodable])[:MOST_TEXT]
