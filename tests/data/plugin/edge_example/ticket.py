"""A kind of credential: a ticket in a header of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from edge_extproc.providers.credentials.base import (
    Credential,
    CredentialKind,
    CredentialSettings,
    Pairs,
    RefreshedCredential,
    UnsignedRequest,
)


@dataclass(frozen=True, slots=True)
class Ticket:
    ticket: Callable[[], str] = field(repr=False)

    def headers(self, request: UnsignedRequest) -> Pairs:
        return (("x-example-ticket", f"{self.ticket()} {request.path}"),)


class TicketKind(CredentialKind):
    fields = frozenset({"ticket"})

    def check(self, given: Collection[str]) -> tuple[str, str] | None:
        return None if "ticket" in given else ("a ticket is missing", "give one as options.ticket")

    def build(self, settings: CredentialSettings, keep: RefreshedCredential, clock: Callable[[], float]) -> Credential:
        del keep, clock  # a ticket holds for ever
        return Ticket(settings.secrets["ticket"])


PLUGIN = TicketKind()
