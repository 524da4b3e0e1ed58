"""Asks the services of a request's rules, with the texts as the detectors' rules masked them.

They are asked at the same time. Only those of rules that mask are asked one after another: each gets the texts as the
one before has masked them, so that no mask undoes another one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import PolicyUnavailable
from ..model.rule_hit import RuleHit
from .base import Checked, Direction, Piece, Rule, Service, Verdict
from .body_texts import BodyText, BodyTexts, Replacement, is_json
from .findings import Blocked, Findings

_LONGEST_LABEL = 64
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.:/-]+")
UNAVAILABLE = "unavailable"
"""The label of the hit of a rule whose service did not answer, if the rule lets the call pass."""


async def apply_services(body: BodyTexts, rules: Sequence[Rule], checked: Checked) -> Findings:
    """The findings of all rules that have a service. `checked`: the call, without its texts. Raises PolicyUnavailable
    if a service does not answer and its rule does not let the call pass."""
    result, current = Findings(body=body.raw), dict[BodyText, str]()
    asked = [(rule, rule.service, _texts_for(body, rule)) for rule in rules if rule.service is not None]

    async def ask_masking() -> None:
        for rule, service, texts in asked:
            if rule.action == "mask":
                _take(
                    rule,
                    await _ask(rule, service, texts, current, body, checked),
                    texts,
                    result,
                    current,
                    checked.direction,
                )

    async def ask(rule: Rule, service: Service, texts: Sequence[BodyText]) -> None:
        _take(rule, await _ask(rule, service, texts, {}, body, checked), texts, result, {}, checked.direction)

    await asyncio.gather(ask_masking(), *[ask(*each) for each in asked if each[0].action != "mask"])
    if result.blocked is None:
        result.body = body.written({text: [Replacement(0, len(text.text), new)] for text, new in current.items()})
    return result


def _texts_for(body: BodyTexts, rule: Rule) -> list[BodyText]:
    """The texts that a service judges: no keys, and no parameters of the call. What a provider has signed cannot be
    masked."""
    return [
        each
        for each in (body.texts if rule.action == "mask" else (*body.texts, *body.query))
        if each.form in ("value", "plain", "base64")
        and each.text
        and (each.place.kind is None or (each.place.kind in rule.kinds and each.place.kind != "other"))
        and not (rule.action == "mask" and each.place.is_signed)
    ]


async def _ask(
    rule: Rule,
    service: Service,
    texts: Sequence[BodyText],
    current: Mapping[BodyText, str],
    body: BodyTexts,
    checked: Checked,
) -> Verdict | None:
    """None: the service does not answer, and the rule lets the call pass. `current`: the masked texts so far."""
    pieces = tuple(Piece(current.get(each, each.text), each.place.kind or "other", each.path) for each in texts)
    media = body.media()
    if not pieces and not media:
        return Verdict("pass")
    try:
        return assignable(await service.check(replace(checked, pieces=pieces, media=media)), pieces, rule)
    except PolicyUnavailable:
        if rule.fail == "closed" and rule.mode == "enforce":
            raise
        return None


def assignable(verdict: Verdict, pieces: Sequence[Piece], rule: Rule) -> Verdict:
    """The verdict. Raises PolicyUnavailable if its texts are not one for each piece."""
    if verdict.action == "mask" and len(verdict.texts or ()) != len(pieces):
        raise PolicyUnavailable(f"the service of the rule {rule.name!r} sent masked texts that cannot be assigned")
    return verdict


def label_of(verdict: Verdict) -> str:
    """The label of a hit."""
    return _UNUSUAL.sub("_", verdict.label)[:_LONGEST_LABEL] or "found"


def _take(
    rule: Rule,
    verdict: Verdict | None,
    texts: Sequence[BodyText],
    result: Findings,
    current: dict[BodyText, str],
    direction: Direction,
) -> None:
    """A service that finds something decides with the action of its rule. It may mask only in a rule that masks."""
    if verdict is None:
        result.hits.append(RuleHit(rule.name, UNAVAILABLE, "flag", rule.mode, direction, 1))
        return
    if verdict.action == "pass":
        return
    label, count = label_of(verdict), 1
    blocks = rule.action == "block" or (rule.action == "mask" and verdict.action == "block")
    if rule.action == "mask" and not blocks:
        pairs = zip(texts, verdict.texts or (), strict=True)
        changed = {text: new for text, new in pairs if new != current.get(text, text.text)}
        if not changed:
            return
        count = len(changed)
        # What is JSON must stay JSON.
        blocks = any(text.inner and not is_json(new.encode(errors="surrogatepass")) for text, new in changed.items())
        if rule.mode == "enforce" and not blocks:
            current.update(changed)
    result.hits.append(RuleHit(rule.name, label, "block" if blocks else rule.action, rule.mode, direction, count))
    if rule.mode != "enforce":
        return
    if blocks and result.blocked is None:
        result.blocked = Blocked(rule.name, label, None)
    elif rule.action == "route":
        result.reroute(rule)
