"""The most tokens and dollars that a call can use, for its reservation.

A budget must not be exceeded, so its bound is strict: a byte-level tokenizer makes at most one token from a byte, and
content that is not in the body (an image behind a URL, a stored conversation) counts as a whole context window. For
tokens per minute, an estimate is sufficient, and the settlement corrects it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase

from ..accounting.base import Prices
from ..accounting.estimate import tokens_of_length
from ..limits.base import MICRO, ReservationRequest
from ..model.call import Call
from ..model.plan import Candidate
from ..model.wire_names import WireNames
from ..providers.base import Provider

# The operations whose cost is bounded by tokens.
_PRICED = frozenset({"chat", "completions", "embeddings"})
# Tokens that providers add to a prompt (roles, tool instructions) and that are not in the body.
_WRAPPING = 1_024
# Anthropic's page on compaction: a trigger below it is refused.
_LEAST_SUMMARIZED = 50_000
# Reading or deleting stored objects costs no tokens.
_FREE = frozenset({"DELETE", "GET", "HEAD"})
_STORES = re.compile(
    r"/files|/uploads(?:/[^/]+/(?:parts|complete|cancel))?|(?:(?:/messages)?/batches|/responses)/[^/]+/cancel"
)
# The most expensive image in any provider's table: 2,833 tokens and 5,667 for each of at most 8 tiles (gpt-4o-mini).
_IMAGE = 48_169
# A key that is spelled with escapes could be any of these. Ordinary clients do not escape ASCII letters.
_HIDDEN = re.compile(rb"\\u00[4-7]")


# Callers may choose model names, if a glob matches them.
_MAX_REMEMBERED, _LONGEST_REMEMBERED = 4_096, 256


@dataclass(frozen=True, slots=True)
class PromptSearch:
    """Finds the content of a body that its length does not bound, by the field names of the dialects. Made once for a
    gateway."""

    marked: re.Pattern[bytes]
    """Any of the names below, or a string that begins like the type of a tool of the provider's own. This one search is
    sufficient for most calls."""
    media: re.Pattern[bytes]
    elsewhere: re.Pattern[bytes]
    """A part of the prompt is elsewhere: a URL, an uploaded file, a conversation that the provider stores, or what a
    tool of the provider's own will find."""
    caches: re.Pattern[bytes]
    summaries: re.Pattern[bytes]
    """The provider may call the model once more, for a summary of the prompt."""

    @classmethod
    def of(cls, names: WireNames) -> PromptSearch:
        elsewhere = names.elsewhere | names.unbounded | names.stored_prompts
        # A tool of the provider's own is a field, or a type of which only the beginning is known.
        tools = names.provider_tools | names.stored_in_tools
        marked = elsewhere | names.links | names.media | names.cache_marks | tools
        types = b'|"type"\\s*:\\s*"%s' % _one_of(names.provider_tool_types)
        links = b'|"%s"\\s*:\\s*"(?!data:)' % _one_of(names.links)
        fields = b'|"%s"\\s*:' % _one_of(tools)
        beginnings = names.provider_tool_types | names.summary_types
        return cls(
            # One tree, so that the search goes from quote to quote.
            re.compile(b'"%s' % _one_of(frozenset(f'{name}"' for name in marked) | beginnings)),
            re.compile(b'"%s"' % _one_of(names.media)),
            re.compile(b'"%s"' % _one_of(elsewhere) + links + fields + types),
            re.compile(b'"%s"' % _one_of(names.cache_marks)),
            re.compile(b'"type"\\s*:\\s*"%s' % _one_of(names.summary_types)),
        )


@functools.lru_cache(maxsize=64)  # each reload has the same dialects
def _one_of(names: frozenset[str]) -> bytes:
    """A pattern of any of these names. Without names, it matches nothing."""
    return _tree(sorted(names)) if names else rb"(?!)"


def _tree(names: list[str]) -> bytes:
    """The names in order, as a tree of their beginnings: a plain list is tried from its first to its last name at each
    quote."""
    by_first: dict[str, list[str]] = {}
    for name in names:
        by_first.setdefault(name[:1], []).append(name[1:])
    ends = by_first.pop("", None) is not None
    branches = [re.escape(first).encode() + _tree(rest) for first, rest in by_first.items()]
    if not branches:
        return b""
    return b"(?:%s)%s" % (b"|".join(branches), b"?" if ends else b"") if ends or len(branches) > 1 else branches[0]


@dataclass(frozen=True, slots=True)
class OutputBounds:
    """The configured limits of models, by name or glob. The first match counts."""

    max_output: tuple[tuple[str, int], ...]
    """The most output tokens of a call without a limit, for an unknown model."""
    usual_output: int
    """The output tokens that a call without a limit reserves from tokens per minute: a typical length, not the
    maximum."""
    context_window: int
    assumed_input: int
    """Micro-dollars for a million tokens of a model without a price."""
    assumed_output: int
    _outputs: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """A cache of `output_of`."""

    def output_of(self, model: str) -> int:
        """The most output tokens of a model. The name matches as it is or in lower case, because hosts write both
        `DeepSeek-V3` and `deepseek-v3`."""
        known = self._outputs.get(model)
        if known is not None:
            return known
        low = model.lower()
        tokens = next(most for glob, most in self.max_output if fnmatchcase(model, glob) or fnmatchcase(low, glob))
        if len(self._outputs) < _MAX_REMEMBERED and len(model) <= _LONGEST_REMEMBERED:
            self._outputs[model] = tokens
        return tokens


UNCONFIGURED = OutputBounds((("*", 131_072),), 2_048, 1_000_000, 0, 0)
"""For a configuration without limits of models."""


def reservation_request(
    call: Call,
    candidates: Sequence[Candidate],
    providers: Mapping[str, Provider],
    prices: Prices,
    bounds: OutputBounds,
    search: PromptSearch,
    *,
    priced: bool,
    added: int = 0,
) -> ReservationRequest:
    """The reservation of a call. `priced`: a rule counts dollars, so that the price is needed. `added`: the most output
    tokens that a translated request has beyond the caller's limit."""
    if call.operation == "count_tokens" or call.method in _FREE or _stores(call):
        return ReservationRequest(0, 0, model=call.model)
    limit = 0 if call.operation == "embeddings" else call.max_output_tokens
    if limit is not None:
        limit += added
    estimate = min(tokens_of_length(len(call.raw)), bounds.context_window)
    tokens = estimate + (bounds.usual_output if limit is None else limit) * call.choices
    if not priced:
        return ReservationRequest(tokens, 0, model=call.model)
    if call.operation not in _PRICED:
        return ReservationRequest(tokens, None, _assumed(bounds, len(call.raw), bounds.usual_output), call.model)
    raw = call.raw
    hides = _hides(raw)
    caches = summarizes = hides
    if hides:
        prompt = bounds.context_window
    elif search.marked.search(raw) is None:
        prompt = min(len(raw) + _WRAPPING, bounds.context_window)
    else:
        prompt = _most_prompt(raw, bounds.context_window, search)
        caches = search.caches.search(raw) is not None
        summarizes = search.summaries.search(raw) is not None
    summarizes = summarizes and prompt >= _LEAST_SUMMARIZED
    sounds = hides or b"audio" in raw or b"AUDIO" in raw
    dearest: Decimal | None = Decimal(0)
    most = most_input = 0
    for candidate in candidates:
        output = 0
        if call.operation != "embeddings":
            output = (bounds.output_of(candidate.model) if limit is None else limit) * call.choices
        given = prompt
        if summarizes:  # the model reads the prompt, writes a summary of it, and reads that with the rest
            summary = bounds.output_of(candidate.model)
            given += min(prompt + summary, bounds.context_window)
            output += summary
        most, most_input = max(most, output), max(most_input, given)
        provider = providers[candidate.provider]
        cost = prices.max_cost(
            provider.price_list,
            candidate.model,
            given,
            output,
            host=provider.name,
            caches=caches,
            audio=sounds,
            tiers=call.tiers.values(),
        )
        dearest = None if dearest is None or cost is None else max(dearest, cost)
    assumed = _assumed(bounds, most_input or prompt, most)
    return ReservationRequest(tokens, None if dearest is None else _micro(dearest), assumed, call.model)


def session_reservation(
    model: str,
    candidate: Candidate,
    provider: Provider,
    prices: Prices,
    bounds: OutputBounds,
    prompt: int,
    output: int,
    *,
    priced: bool,
) -> ReservationRequest:
    """The reservation of one response within a session, whose prompt is all of the session before it. `prompt` and
    `output`: the most tokens."""
    prompt = min(prompt + _WRAPPING, bounds.context_window)
    tokens = prompt + output
    if not priced:
        return ReservationRequest(tokens, 0, model=model)
    cost = prices.max_cost(
        provider.price_list, candidate.model, prompt, output, host=provider.name, caches=True, audio=True
    )
    assumed = _assumed(bounds, prompt, output)
    return ReservationRequest(tokens, None if cost is None else _micro(cost), assumed, model)


def hedged_reservation(request: ReservationRequest, providers: int) -> ReservationRequest:
    """The reservation of a hedged call, for which `providers` may charge at the same time."""
    dollars = request.micro_dollars * providers if request.micro_dollars is not None else None
    return request._replace(micro_dollars=dollars, assumed=request.assumed * providers)


def _stores(call: Call) -> bool:
    """Whether a call stores a file, or cancels work: providers charge for neither."""
    return (
        call.operation == "passed" and not call.model and _STORES.fullmatch(call.target.partition("?")[0]) is not None
    )


def most_of_event(raw: bytes, window: int, search: PromptSearch) -> int:
    """The most tokens that one event adds to a session."""
    if _hides(raw):
        return window
    if search.marked.search(raw) is None:
        return min(len(raw), window)
    return _most_prompt(raw, window, search)


def _hides(raw: bytes) -> bool:
    return b"\\u00" in raw and _HIDDEN.search(raw) is not None


def _most_prompt(raw: bytes, window: int, search: PromptSearch) -> int:
    if search.elsewhere.search(raw):
        return window
    return min(len(raw) + _WRAPPING + _IMAGE * len(search.media.findall(raw)), window)


def _assumed(bounds: OutputBounds, prompt: int, output: int) -> int:
    return -(-(prompt * bounds.assumed_input + output * bounds.assumed_output) // MICRO)


def _micro(dollars: Decimal) -> int:
    return int(dollars * MICRO) + 1
