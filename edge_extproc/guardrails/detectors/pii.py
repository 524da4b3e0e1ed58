"""Finds personal data: e-mail addresses, telephone numbers, cards, US social security numbers, IBANs, IP addresses and
addresses of cryptocurrencies. Each kind is verified, by its check digits or its valid ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

from pydantic import AfterValidator

from ...config.extras import GUARDRAILS, Extra
from ...config.part import ConfigSection, Text, one_of
from ...config.quantities import Boolean
from ...config.wrong import wrong
from ...errors import ConfigError
from ..base import Finding, TextKind
from ..normalised_text import EXPANSION
from ..personal_data import CONTEXT, LONGEST, IsPhone, PersonalDataSearch, PersonalKind
from ..view_matches import find_in_views

_KINDS: tuple[PersonalKind, ...] = get_args(PersonalKind)
# Characters of the text that an encoded value can have and a stream still holds: most values are short.
_ENCODED = 64 * EXPANSION


def _some(value: tuple[PersonalKind, ...]) -> tuple[PersonalKind, ...]:
    if not value:
        raise wrong("this list is empty", "name one or more kinds, or leave the key out")
    return value


class PiiOptions(ConfigSection):
    """Personal data."""

    kinds: Annotated[tuple[Annotated[PersonalKind, one_of(*_KINDS)], ...], AfterValidator(_some)] = _KINDS
    """email, phone, card (Luhn), ssn (of the USA, valid ranges), iban (check digits), ip (no private addresses),
    crypto_address (checksum). Default: all."""
    regions: tuple[Text, ...] = ("US",)
    """Countries whose telephone numbers are found without their country code, as ISO 3166 codes: [US, DE]. Numbers
    that begin with + are found for all countries."""
    decode: Boolean = True
    """Whether to search in decoded text too: base64, hexadecimal digits, escapes, lookalikes, invisible characters."""


class PersonalDataDetector:
    def __init__(self, options: PiiOptions) -> None:
        is_phone = _phones(options.regions) if "phone" in options.kinds else None
        self._search = PersonalDataSearch(options.kinds, is_phone)
        self._decode = options.decode
        plain = max(LONGEST[kind] for kind in options.kinds) + CONTEXT
        self._longest = max(plain, _ENCODED) if options.decode else plain

    @property
    def longest(self) -> int:
        return self._longest

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        return find_in_views(text, self._search.search, self._longest, decode=self._decode)


def _phones(regions: tuple[str, ...]) -> IsPhone:
    """By the numbering plans of the package phonenumbers."""
    GUARDRAILS.require("the kind phone of the detector pii")
    import phonenumbers

    for region in regions:
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise ConfigError(f"pii: {region!r} is no region with telephone numbers; write a code such as US or DE")
    from ..phone_numbers import PhoneNumbers

    return PhoneNumbers(regions)


class PiiPlugin:
    """The detector `pii`."""

    options = PiiOptions

    def required_extra(self, options: PiiOptions) -> Extra | None:
        """Only telephone numbers need a library."""
        return GUARDRAILS if "phone" in options.kinds else None

    def build(self, options: PiiOptions) -> PersonalDataDetector:
        return PersonalDataDetector(options)


PLUGIN = PiiPlugin()
