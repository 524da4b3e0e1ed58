"""The section `cache.semantic`: replies to calls that mean the same. Without the section, nothing of it is loaded."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .. import registry
from .part import ConfigSection, Text, one_of
from .plugin_choice import PluginChoice
from .quantities import Boolean, Count, PositiveDuration, Size
from .wrong import wrong

VERIFIERS = "cache.semantic.verifiers"
"""The room of the verifiers."""
_LONGEST_BUDGET = timedelta(seconds=2)

SimilarCalls = Annotated[Literal["all", "on_request", "off"], one_of("all", "on_request", "off")]


class EmbedderChoice(PluginChoice):
    """One embedder, and its options."""

    __slots__ = ()
    room = "cache.semantic.embedders"
    noun = "embedder"


class VectorStoreChoice(PluginChoice):
    """One store of vectors, and its options."""

    __slots__ = ()
    room = "cache.semantic.stores"
    noun = "store of vectors"


def _share(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise wrong("this is no share", "write a number from 0 to 1")
    return number


def _budget(value: timedelta) -> timedelta:
    if value > _LONGEST_BUDGET:
        raise wrong("this is too long: each miss waits for it", "write 2s or less")
    return value


def _verifiers(value: tuple[str, ...]) -> tuple[str, ...]:
    have = registry.names(VERIFIERS)
    for name in value:
        if name not in have:
            raise wrong(f"there is no such verifier; have {', '.join(have)}", "write some of them", show=False)
    if not value:
        raise wrong("this list is empty: a similar question would be taken for the same", "leave the key out for all")
    return value


Share = Annotated[float, BeforeValidator(_share)]


class SemanticShadowConfig(ConfigSection):
    """Of some would-be hits, the provider is called all the same, and both replies are compared."""

    share: Share = 0.05
    """The share of would-be hits that are compared, from 0 to 1. Each costs a call to the provider."""
    agreement: Share = 0.9
    """The least cosine of two replies that agree. Short replies must also have the same numbers."""
    max_false_hits: Share = 0.05
    """The highest estimated share of replies that differ. Beyond it, the semantic cache is off for the model and
    tenant."""
    min_compared: Count = 20
    """Comparisons before the estimate may turn it off."""
    window: Count = 500
    """The last comparisons of a worker, of which it makes the estimate."""


class SemanticCacheConfig(ConfigSection):
    """L3: replies to calls that mean the same, as verifiers decide."""

    calls: SimilarCalls = "all"
    """Which calls may get the reply to a similar call. all: those without `x-edge-cache-semantic: off`. on_request:
    those with `x-edge-cache-semantic: on`. off: none, if `cache.models` or `cache.tenants` do not say otherwise."""
    embedder: EmbedderChoice = Field(default={"static": {}}, validate_default=True)
    """What makes the vectors of questions."""
    store: VectorStoreChoice = Field(default={"memory": {}}, validate_default=True)
    """Where vectors and replies are."""
    verify: Annotated[tuple[Text, ...], AfterValidator(_verifiers)] | None = None
    """The verifiers, in the order in which they are asked. All must agree. Default: all that are installed."""
    similarity: Share = 0.75
    """The least cosine of two questions. Without a verifier, no value separates paraphrases from other questions."""
    neighbours: Count = 5
    """How many of the nearest questions are verified."""
    budget: Annotated[PositiveDuration, AfterValidator(_budget)] = timedelta(milliseconds=20)
    """The longest time of a lookup with its verification. After it, the lookup counts as a miss. At most 2s."""
    ttl: PositiveDuration = timedelta(hours=1)
    """How long a reply may be used for similar calls, if neither its call nor the rules of the cache say it."""
    max_tokens: Count = 200
    """The longest question, in tokens of four bytes. A call with a longer one is not looked up."""
    max_call: Size = Field(default="64KiB", validate_default=True)
    """A larger call is not looked up."""
    structured_output: Boolean = False
    """Look up calls that require a reply in JSON, too."""
    shadow: SemanticShadowConfig = SemanticShadowConfig()
    """How false hits are measured."""

    def verifiers(self) -> tuple[str, ...]:
        return self.verify if self.verify is not None else registry.names(VERIFIERS)

    def plugin_options(self) -> tuple[tuple[str, Any, Any], ...]:
        """For the embedder and the store: the key, the plugin and its options."""
        choices = (("embedder", self.embedder), ("store", self.store))
        return tuple((key, registry.load(choice.room, choice.name), choice.options) for key, choice in choices)
