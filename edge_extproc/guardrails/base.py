"""The ports of the guardrails: rules about the texts of calls and replies.

A rule has a detector or a service, an action and a scope. A *detector* is pure and finds places in one text. A
*service* is asked over the network and judges all texts of a call or a reply. Both are independent of the wire format:
they get pieces of text with their kinds. A file of `detectors` or `services` that exports PLUGIN is one of them.

No result contains text of a call: a finding has positions and a label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol, runtime_checkable

from ..config.credentials import UpstreamCredentialConfig
from ..config.secrets import Secret
from ..model.content import Json
from ..model.frozen_dataclass import frozen_dataclass
from ..model.reply import Reply, ReplyEvent
from ..model.rule_hit import Action as Action
from ..model.rule_hit import Direction as Direction
from ..model.rule_hit import RuleHit as RuleHit
from ..model.rule_hit import TextKind as TextKind

VERDICT_SECONDS = 30.0
"""How long the proxy waits for the verdict of services, in seconds."""


@frozen_dataclass
class Piece:
    """One text of a call or a reply."""

    text: str
    kind: TextKind
    path: str
    """Where it is in the body, as `messages[2].content[0].text`."""


@frozen_dataclass
class Media:
    """A picture, a document or audio. A service gets these facts, and the bytes of a picture only if its options say
    so."""

    sha256: str
    media_type: str
    size: int
    """Bytes."""
    path: str
    type_of_bytes: str = ""
    """The media type that the first bytes show. "": it is not known."""
    content: bytes = field(default=b"", repr=False, compare=False)
    """The bytes."""


@frozen_dataclass
class Finding:
    """A place in a text. `start` and `end` count characters of the text as it is, also if the detector looked at a
    normalised form."""

    start: int
    end: int
    label: str
    """What it is, as `email` or `aws_access_key_id`: a word of the detector, never a part of the text."""


class Detector(Protocol):
    """Finds places in a text. It is pure, and its time is linear in the text's length."""

    @property
    def longest(self) -> int:
        """The most characters that one finding can have, with the text around it that decides whether it is one. A
        stream holds as many."""
        ...

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        """The findings, in order of `start`. They do not overlap."""
        ...


@runtime_checkable
class StreamDetector(Detector, Protocol):
    """A detector that knows which end of a text is not decided yet, so that a stream holds no more."""

    @property
    def context(self) -> int:
        """The characters before a finding that can decide whether it is one."""
        ...

    def open_end(self, text: str) -> int:
        """How many characters at the end can belong to a finding that more text completes, or makes longer."""
        ...


@runtime_checkable
class MediaDetector(Detector, Protocol):
    """A detector that judges pictures and documents by these facts."""

    def find_media(self, media: Media) -> str | None:
        """The label of a finding. None: there is none."""
        ...


class DetectorPlugin(Protocol):
    """PLUGIN of a file in `detectors`."""

    @property
    def options(self) -> type[Any]:
        """The section of the configuration: a ConfigSection."""
        ...

    def build(self, options: Any) -> Detector:
        """Raises ConfigError if the options cannot work, for example if a file cannot be read."""
        ...


# --- rules, as the wiring compiles them


@frozen_dataclass
class Rule:
    """One rule, for the callers and models that the configuration names."""

    name: str
    directions: frozenset[Direction]
    kinds: frozenset[TextKind]
    action: Action
    mode: Literal["enforce", "shadow"]
    """`shadow`: it is only counted and logged."""
    detector: Detector | None = None
    service: Service | None = None
    """Exactly one of both is set."""
    restore: bool = True
    """Of `mask`: whether the reply has the values again."""
    route: str | None = None
    """Of `route`: the model that gets the call instead."""
    fail: Literal["closed", "open"] = "closed"
    """Of a service that does not answer."""
    during: bool = False
    """Of a service that checks requests: it is asked while the provider works, and the reply waits for its verdict."""
    window: int | None = None
    """Of a service that checks replies: how many characters of a stream are held for one check. None: all."""
    interval: float | None = None
    """Of such a service: the seconds after which a shorter text is checked. None: it waits."""

    @property
    def can_refuse(self) -> bool:
        """Whether the verdict of a service, or none, can refuse a request."""
        return self.mode == "enforce" and (self.action == "block" or self.fail == "closed")

    @property
    def holds_replies(self) -> bool:
        """Whether a service's verdict can change or end a reply, so that the reply waits for it."""
        return self.service is not None and self.mode == "enforce" and self.action in ("block", "mask")


class Masker(Protocol):
    """Replaces values by placeholders, which are the same for each call of one scope (tenant, or conversation)."""

    def placeholder(self, value: str, label: str, *, restore: bool = True) -> str:
        """With `restore`, it records the value, so that `Restorer` finds it."""
        ...


class Restorer(Protocol):
    """Replaces placeholders that the `Masker` of the same call made. Others stay as they are."""

    @property
    def longest(self) -> int:
        """Characters of the longest placeholder; 0 if there is none."""
        ...

    def restore(self, text: str) -> str: ...

    def restore_json(self, text: str) -> str:
        """The same for JSON text, in whose strings the placeholders are: the values are escaped."""
        ...

    def open_end(self, text: str) -> int:
        """How many characters at the end may be the beginning of a placeholder; less than `longest`."""
        ...


class ReplyGuard(Protocol):
    """Checks and changes one reply: placeholders become values again, and the rules for replies apply. A reply is
    either a stream, event by event, or complete."""

    @property
    def hits(self) -> Sequence[RuleHit]: ...

    @property
    def blocked(self) -> RuleHit | None:
        """The rule that ended the reply."""
        ...

    @property
    def can_block(self) -> bool:
        """Whether a rule may end the reply. A rule that masks does if it would have to hold too much text."""
        ...

    @property
    def strictest(self) -> str:
        """The name of a rule that may end the reply."""
        ...

    @property
    def can_change(self) -> bool:
        """Whether the caller may get other events than the provider sends. If not, `checked` only counts."""
        ...

    @property
    def services(self) -> ReplyServices | None:
        """None: no service is asked. Otherwise `complete` and `json` are not used, but its methods."""
        ...

    def checked(self, event: ReplyEvent) -> tuple[ReplyEvent, ...]:
        """The events for the caller. After a block they end the stream as the provider's own content filter does. With
        services, some events wait for their verdict."""
        ...

    def json(self, value: Json) -> Json:
        """A JSON value of a reply that is no chat, for the caller. If the reply is blocked, the value is None."""
        ...

    def complete(self, reply: Reply) -> Reply:
        """The reply for the caller. A blocked one has no content and the finish reason `content_filter`."""
        ...


class ReplyServices(Protocol):
    """Asks the services of the rules for replies. Each method raises PolicyUnavailable if one does not answer, and its
    rule does not let the reply pass. Then nothing more may go to the caller."""

    @property
    def due(self) -> bool:
        """Whether the events that wait must be judged now."""
        ...

    async def judged(self) -> tuple[ReplyEvent, ...]:
        """Asks about the events that wait. Returns those for the caller."""
        ...

    async def judged_reply(self, reply: Reply) -> Reply:
        """The same as `complete` of the guard."""
        ...

    def detected_reply(self, reply: Reply) -> Reply:
        """The reply as the rules with a detector leave it. It is not for a caller: no service has judged it."""
        ...

    def detected(self, value: Json) -> Json:
        """Of a reply that is no chat, first: a JSON value as the rules with a detector leave it."""
        ...

    async def judged_body(self, raw: bytes, content_type: str) -> bytes:
        """Then: the body as the services leave it. If the reply is blocked, it has no meaning."""
        ...

    def restored(self, value: Json) -> Json:
        """At last: a JSON value for the caller, with the values of placeholders."""
        ...


class ReplyGuards(Protocol):
    """The guardrails of one call, for its reply."""

    def guard_reply(self, *, signs_thinking: bool, any_kind: bool = False) -> ReplyGuard | None:
        """The guard of a reply. `signs_thinking`: the provider's format has signatures of thinking. `any_kind`: what
        its texts are is not known, so the rules for each kind apply. None: no rule applies to replies, and the request
        has no placeholder."""
        ...

    def guard_next_reply(self) -> ReplyGuard | None:
        """The guard of one more reply of the same response, which is no chat."""
        ...


# --- services


@frozen_dataclass
class Checked:
    """What a service judges."""

    direction: Direction
    pieces: tuple[Piece, ...]
    media: tuple[Media, ...]
    model: str
    tenant: str
    call_id: str
    """The id of the exchange."""


@frozen_dataclass
class Verdict:
    """What a service answered."""

    action: Literal["pass", "block", "mask"]
    label: str = ""
    """The service's category, in at most 64 characters: never a part of the text."""
    texts: tuple[str, ...] | None = None
    """For `mask`: the new texts, one for each piece."""


class Service(Protocol):
    """Judges calls and replies over the network. Raises PolicyUnavailable if it does not answer in time or as
    documented; the rule's `fail` decides what follows."""

    async def check(self, checked: Checked) -> Verdict: ...

    async def close(self) -> None: ...


class RequestSigner(Protocol):
    """A cloud credential of the configuration."""

    def __call__(self, method: str, host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
        """The headers to add to a request. `path`: as it is sent, with the query. Raises Unavailable if there is no
        valid credential now."""
        ...


@frozen_dataclass
class ServiceTools:
    """What the wiring gives to a service. A stage cannot import the providers' credentials."""

    rule: str
    """The name of the rule, for errors."""
    current: Callable[[Secret], Callable[[], str]]
    """A function that returns the present value of a secret: one from a file is read again when the file changes."""
    signer: Callable[[UpstreamCredentialConfig, str, str | None], RequestSigner]
    """The signer for a credential, the service that AWS signatures name, and a region."""


class ServicePlugin(Protocol):
    """PLUGIN of a file in `services`."""

    @property
    def options(self) -> type[Any]:
        """The section of the configuration: a ServiceOptions."""
        ...

    def build(self, options: Any, tools: ServiceTools) -> Service:
        """Raises ConfigError if the options cannot work."""
        ...
