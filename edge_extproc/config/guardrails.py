"""The section `guardrails`: rules about the texts of calls and replies. Without a rule, nothing is checked."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ..model.rule_hit import Action, Direction, TextKind
from .part import ConfigSection, Label, Text, one_of
from .plugin_choice import PluginChoice
from .quantities import Boolean, Duration
from .wrong import wrong

KINDS: tuple[TextKind, ...] = get_args(TextKind)
_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_ACTIONS: tuple[Action, ...] = get_args(Action)


class DetectorChoice(PluginChoice):
    """One detector, and its options."""

    __slots__ = ()
    room = "guardrails.detectors"
    noun = "detector"


class ServiceChoice(PluginChoice):
    """One service, and its options."""

    __slots__ = ()
    room = "guardrails.services"
    noun = "service"


DEFAULT_WINDOW = 2000
_LEAST_WINDOW, _MOST_WINDOW = 50, 1_000_000


def _read_window(value: object) -> object:
    value = int(value) if isinstance(value, str) and value.isdecimal() else value
    is_count = isinstance(value, int) and not isinstance(value, bool) and _LEAST_WINDOW <= value <= _MOST_WINDOW
    if value is None or value == "whole" or is_count:
        return value
    raise wrong(
        "this is not a window", f"write whole, or a number of characters from {_LEAST_WINDOW} to {_MOST_WINDOW}"
    )


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise wrong("this list is empty", "name one or more, or leave the key out")
    return value


class RuleScopeConfig(ConfigSection):
    """The calls to which a rule applies. All given conditions must hold. A key that is not given does not restrict."""

    tenants: tuple[Text, ...] = ()
    """Names or globs."""
    teams: tuple[Text, ...] = ()
    """Names or globs. A caller without a team is in none."""
    users: tuple[Text, ...] = ()
    """Names or globs. A caller without a user is none of them."""
    keys: tuple[Text, ...] = ()
    """Ids of callers' keys, or globs."""
    roles: tuple[Text, ...] = ()
    """Names or globs. One role of the caller must match."""
    models: tuple[Text, ...] = ()
    """Names or globs of the requested model, or of a further one that the body names for its host. Candidates,
    fallbacks and `route_to` do not change it."""


class GuardrailRuleConfig(ConfigSection):
    """One rule: what it looks for, in which texts of which calls, and what it does."""

    name: Label
    """The rule's name in logs, metrics and errors."""
    detect: DetectorChoice | None = None
    """The detector and its options: {words: {words: [falcon]}}. It works within the gateway."""
    service: ServiceChoice | None = None
    """The service and its options. It gets the texts over the network."""
    on: Annotated[
        tuple[Annotated[Direction, one_of(*_DIRECTIONS)], ...],
        AfterValidator(_some),
    ] = ("request",)
    """request: texts that the caller sends, with the whole history. reply: texts of the model."""
    kinds: Annotated[
        tuple[Annotated[TextKind, one_of(*KINDS)], ...],
        AfterValidator(_some),
    ] = KINDS
    """The kinds of texts: system, user, assistant, thinking, tool_definition, tool_call, tool_result, file_name, url,
    other. Default: all. In a body whose parts the gateway does not know, a text is of each kind."""
    for_: RuleScopeConfig = Field(default=RuleScopeConfig(), validation_alias="for")
    """The callers and models of the rule. Default: all."""
    action: Annotated[Action, one_of(*_ACTIONS)]
    """block: the call is refused. mask: placeholders replace the findings. flag: the finding is reported only. route:
    another model gets the call."""
    route_to: Text | None = None
    """Of route: a name of `models`. The caller must be allowed to use it."""
    restore: Boolean = True
    """Of mask: the caller's reply has the values in place of their placeholders."""
    mode: Annotated[Literal["enforce", "shadow"], one_of("enforce", "shadow")] = "enforce"
    """shadow: findings are only counted and logged."""
    fail: Annotated[Literal["closed", "open"], one_of("closed", "open")] = "closed"
    """Of a service that does not answer. closed: the call is refused with 503. open: it passes."""
    when: Annotated[Literal["before", "during"], one_of("before", "during")] = "before"
    """Of a service that checks requests. before: the provider gets the call after the verdict. during: the service is
    asked while the provider works, and the reply waits for the verdict."""
    window: Annotated[int | Literal["whole"] | None, BeforeValidator(_read_window)] = None
    """Of a service that checks replies: how many characters of a stream wait for one verdict. whole: the complete
    reply. Default: 2000 for block, whole for mask."""
    interval: Duration | None = None
    """Of such a service: the time after which text that waits is checked, although the window is not full. Default:
    none."""

    @property
    def held_characters(self) -> int | None:
        """The window. None: the complete reply."""
        window = self.window or ("whole" if self.action == "mask" else DEFAULT_WINDOW)
        return None if window == "whole" else window

    @model_validator(mode="after")
    def _consistent(self) -> GuardrailRuleConfig:
        given = self.model_fields_set
        if (self.detect is None) == (self.service is None):
            raise wrong(
                "exactly one of detect and service is needed", "give detect: {NAME: {…}} or service: {NAME: {…}}"
            )
        if (self.action == "route") != (self.route_to is not None):
            raise wrong("action: route and route_to belong together", "give both, or neither", key="action")
        if self.action == "route" and self.on != ("request",):
            raise wrong("a reply cannot go to another model", "write on: [request]", key="on")
        if self.detect is not None and getattr(self.detect.options, "finds_media", False):
            self._check_media()
        self._check_waiting(given)
        if "restore" in given and self.action != "mask":
            raise wrong("only a rule that masks restores values", "remove it", key="restore")
        if "fail" in given and self.service is None:
            raise wrong("only a service can fail to answer", "remove it", key="fail")
        return self

    def _check_media(self) -> None:
        if self.action == "mask":
            right = "write action: block, flag or route"
            raise wrong("a picture or a document cannot be masked", right, key="action")
        if self.on != ("request",):
            raise wrong("the pictures and documents of requests are checked", "write on: [request]", key="on")

    def _check_waiting(self, given: set[str]) -> None:
        """What waits for the verdict of a service."""
        judges_replies = self.service is not None and "reply" in self.on
        if "when" in given and (self.service is None or "request" not in self.on):
            raise wrong("only a service that checks requests can be asked at another time", "remove it", key="when")
        if self.when == "during" and self.action in ("mask", "route"):
            right = "write when: before, or action: block or flag"
            raise wrong(f"the provider already has the call when a verdict could {self.action} it", right, key="when")
        for key in ("window", "interval"):
            if key in given and not (judges_replies and self.action in ("block", "mask")):
                right = "remove it, or write on: [reply] and action: block or mask"
                raise wrong("only a service that blocks or masks replies holds a stream", right, key=key)
        if self.interval is not None and self.held_characters is None:
            raise wrong(
                "with window: whole, a stream is checked at its end", "remove it, or set a window", key="interval"
            )
        if judges_replies and self.action == "flag" and self.mode == "enforce" and self.fail == "closed":
            right = "write fail: open, or action: block or mask"
            raise wrong("a reply does not wait for a rule that only flags, so it cannot be refused", right, key="fail")


class GuardrailsConfig(ConfigSection):
    """Rules for all callers. Tenants, teams, users and keys may have further rules of their own in `callers`."""

    rules: tuple[GuardrailRuleConfig, ...] = ()
    """The rules, in the order in which they are applied."""
