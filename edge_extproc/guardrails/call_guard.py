"""The guardrails of one call: its rules, its placeholders and what the rules did."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, get_args

from ..model.principal import Principal
from ..model.rule_hit import RuleHit
from .base import Checked, Masker, ReplyGuard, Restorer, Service, TextKind
from .body_texts import BodyTexts
from .during_check import DuringCheck
from .findings import CleanTexts, Findings, apply_detectors
from .judged_reply import JudgedReply
from .reply_guard import RuledReply
from .rules import CallRules, RuleSelector
from .service_rules import apply_services

_EVERY_KIND: frozenset[TextKind] = frozenset(get_args(TextKind))


class RestoringMasker(Masker, Protocol):
    @property
    def restorer(self) -> Restorer: ...


class CallGuard:
    """One call. It makes the guard of its reply, which also puts values in place of placeholders."""

    __slots__ = (
        "_checked",
        "_clean",
        "_clock",
        "_hits",
        "_make_masker",
        "_masker",
        "_rules",
        "during",
        "model",
        "reply",
    )

    def __init__(
        self,
        rules: CallRules,
        make_masker: Callable[[bytes], RestoringMasker],
        clean: CleanTexts,
        checked: Checked,
        clock: Callable[[], float],
    ) -> None:
        """`make_masker` makes the masker from the caller's text. `checked`: the call as services know it, without its
        texts. `clock`: monotonic, seconds."""
        self._checked = checked
        self._clock = clock
        self.model = checked.model
        """The model that the caller named."""
        self._rules = rules
        self._make_masker = make_masker
        self._masker: RestoringMasker | None = None
        self._clean = clean
        self._hits: list[RuleHit] = []
        self.reply: ReplyGuard | None = None
        """The guard of the reply, once there is one."""
        self.during: DuringCheck | None = None
        """The services that are asked about the request while the provider works. None: there are none."""

    @property
    def rules(self) -> CallRules:
        return self._rules

    @property
    def restorer(self) -> Restorer | None:
        """None: the request has no placeholder that the reply must not show."""
        return self._masker.restorer if self._masker is not None and self._masker.restorer.longest else None

    @property
    def hits(self) -> tuple[RuleHit, ...]:
        """What the rules did to the request and to the reply so far."""
        return (*self._hits, *self.reply.hits) if self.reply is not None else tuple(self._hits)

    @property
    def has_services(self) -> bool:
        """Whether services check the request."""
        return any(rule.service is not None for rule in self._rules.requests)

    def asks(self, *, during: bool) -> bool:
        """Whether services are asked before the provider is, or while it works."""
        return any(rule.service is not None and rule.during is during for rule in self._rules.requests)

    @property
    def routes(self) -> bool:
        """Whether a rule may give the call to another model."""
        return any(rule.action == "route" and rule.mode == "enforce" for rule in self._rules.requests)

    @property
    def checks_requests(self) -> bool:
        return bool(self._rules.requests)

    def apply_detectors(self, body: BodyTexts) -> Findings:
        """The findings of the rules with a detector. It may run on another thread."""
        if self._masker is None:
            self._masker = self._make_masker(body.raw)
        return apply_detectors(body, self._rules.requests, self._masker, self._clean)

    async def apply_services(self, body: BodyTexts, *, during: bool | None = None) -> Findings:
        """The findings of the rules with a service. `during`: of those that are asked while the provider works, or of
        the others; None: of all. Raises PolicyUnavailable."""
        rules = [rule for rule in self._rules.requests if during is None or rule.during is during]
        return await apply_services(body, rules, self._checked)

    def begin_during(self, body: BodyTexts) -> None:
        """Asks the services that are asked while the provider works."""
        holds = any(rule.during and rule.can_refuse for rule in self._rules.requests)
        self.during = DuringCheck(partial(self.apply_services, body, during=True), self.add_hits, holds=holds)

    def guard_reply(self, *, signs_thinking: bool, any_kind: bool = False) -> ReplyGuard | None:
        """As in `ReplyGuards`. Its hits are those of the call, too."""
        if not self._rules.replies and self.restorer is None:
            return None
        masker = self._masker or self._make_masker(b"")
        rules = self._rules.replies
        if any_kind:
            rules = tuple([replace(rule, kinds=_EVERY_KIND) for rule in rules])
        if any(rule.service is not None for rule in rules):
            checked = replace(self._checked, direction="reply")
            self.reply = JudgedReply(
                rules, masker, masker.restorer, checked, self._clock, signs_thinking=signs_thinking
            )
        else:
            self.reply = RuledReply(rules, masker, masker.restorer, signs_thinking=signs_thinking)
        return self.reply

    def guard_next_reply(self) -> ReplyGuard | None:
        """As in `ReplyGuards`. The hits of the one before remain those of the call."""
        if self.reply is not None:
            self._hits += self.reply.hits
            self.reply = None
        return self.guard_reply(signs_thinking=False, any_kind=True)

    def add_hits(self, hits: Sequence[RuleHit]) -> None:
        self._hits += hits


class Guardrails:
    """All rules of a configuration."""

    def __init__(
        self,
        selector: RuleSelector,
        make_masker: Callable[[str, bytes], RestoringMasker],
        services: Sequence[Service] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make_masker`: from the tenant and the caller's text. `services`: those of all rules."""
        self._clock = clock
        self._selector = selector
        self._make_masker = make_masker
        self._services = services
        self._clean = CleanTexts()

    def begin(
        self, principal: Principal, model: str, other_models: Sequence[str] = (), *, call_id: str = ""
    ) -> CallGuard | None:
        """The guard of a call. None: no rule applies. `other_models`: further ones among which the provider may
        choose. `call_id`: the id of the exchange, for services."""
        rules = self._selector.of(principal, model, *other_models)
        if rules is None:
            return None
        checked = Checked("request", (), (), model, principal.tenant, call_id)
        return CallGuard(
            rules, lambda body: self._make_masker(principal.tenant, body), self._clean, checked, self._clock
        )

    async def close(self) -> None:
        """Closes the connections of the services."""
        for service in self._services:
            await service.close()
