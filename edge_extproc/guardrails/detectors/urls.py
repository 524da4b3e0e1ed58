"""Finds URLs whose host is denied or not allowed, and URLs that hide their host.

A host is compared in its ASCII form (IDNA), without a final dot, in lower case. An address is compared in its usual
form, also if the URL has it as one number, in octal or in hexadecimal digits.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import unquote

import idna
import re2
from pydantic import AfterValidator, model_validator

from ...config.part import ConfigSection, Text
from ...config.quantities import Boolean
from ...config.wrong import wrong
from ..base import Finding, TextKind
from ..normalised_text import TextView
from ..view_matches import ViewMatch, find_in_views

# What is behind these characters is left: without its host it is no URL.
_LONGEST = 512
# The beginning of a URL with a scheme or without one: //host, www.host.
_BEGIN = re2.compile(rb"(?i)[/\\]{2}|\bwww[0-9]?\.")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,20}:\Z")
# Up to the end of the host: the rest of a URL can have another one.
_AUTHORITY = re.compile(r"[^\s\"'<>`|{}^\\/?#(),;]{1,300}")
_REST = re.compile(r"[^\s\"'<>`|{}^]*")
# A name with a usual last part, or a non-ASCII letter (?) in it. Counted repetitions would have too many states.
_BARE = re2.compile(
    rb"(?i)[a-z0-9?][a-z0-9?.-]*\."
    rb"(?:com|net|org|info|biz|io|ai|dev|app|xyz|top|site|online|shop|co|me|cc|ru|cn|de|uk|fr|eu|us|in|br|jp|nl|tk|link|click|sh|gg|to)\b"
)
_PLACEHOLDERS = re.compile(r"[${}<>]|%\(")
# What follows a URL in prose.
_TRAILING = ".,;:!?)]}'\"*_"
_SCHEMES_WITH_HOSTS = frozenset(
    {"http", "https", "ws", "wss", "ftp", "ftps", "sftp", "ssh", "git", "ldap", "gopher", "smb"}
)
_NAME = re.compile(r"\*\.|(?:\*\.)?[^\s/@:*]{1,253}")


def host_form(host: str) -> str:
    """The form in which hosts are compared. "": it is none."""
    host = (unquote(host) if "%" in host else host).strip().rstrip(".").lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1].partition("%")[0]
    if address := _address(host):
        return address
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        return host


def _address(host: str) -> str:
    """An IP address in its usual form. inet_aton reads one to four parts, decimal, octal or hexadecimal."""
    try:
        if ":" in host:
            address = ipaddress.IPv6Address(host)
            return str(address.ipv4_mapped or address)
        if host[:1].isdigit():
            return socket.inet_ntoa(socket.inet_aton(host))
    except (ValueError, OSError, UnicodeError):
        return ""
    return ""


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if _NAME.fullmatch(each) is None or each == "*.":
            raise wrong(
                "this is not the name of a host", "write example.com, *.example.com for all below it, or 10.0.0.1"
            )
    return tuple(("*." if each.startswith("*.") else "") + host_form(each.removeprefix("*.")) for each in value)


class UrlsOptions(ConfigSection):
    """URLs, by their hosts."""

    allow: Annotated[tuple[Text, ...], AfterValidator(_patterns)] = ()
    """Hosts that URLs may have: example.com, or *.example.com for all hosts below it. URLs of other hosts are found."""
    deny: Annotated[tuple[Text, ...], AfterValidator(_patterns)] = ()
    """Hosts whose URLs are found. A denied host is found also if `allow` has it."""
    tricks: Boolean = True
    """Whether URLs are found that hide their host: a name of a host before the host, an IP address as one number or in
    octal digits, letters of two alphabets in one name."""
    addresses: Boolean = False
    """Whether each URL with an IP address as its host is found."""
    bare: Boolean = True
    """Whether hosts without https:// are compared with `deny` too, as example.com in a sentence."""

    @model_validator(mode="after")
    def _some(self) -> UrlsOptions:
        if not (self.allow or self.deny or self.tricks or self.addresses):
            raise wrong("this detector would find nothing", "give allow or deny, or set tricks: true")
        return self


class UrlDetector:
    def __init__(self, options: UrlsOptions) -> None:
        self._options = options
        self._allow, self._deny = _Hosts(options.allow), _Hosts(options.deny)

    @property
    def longest(self) -> int:
        """With the character before it."""
        return _LONGEST + 1

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        return find_in_views(text, self._search, _LONGEST, decode=True)

    def _search(self, view: TextView) -> Iterator[ViewMatch]:
        data, text, done = view.ascii, view.text, 0
        if b"//" in data or b"\\\\" in data or b"www" in data or b"WWW" in data:
            at = 0
            while (match := _BEGIN.search(data, at)) is not None:
                start, at = match.span()
                if data[start] in b"/\\":
                    scheme = _SCHEME.search(data, max(done, start - 22), start)
                    if scheme is not None:
                        start = scheme.start()
                    elif data[start - 1 : start].isalnum():
                        # Two slashes within a word of base64.
                        continue
                authority = _AUTHORITY.match(text, at)
                if authority is None:
                    continue
                at = authority.end()
                label = self._label(text[start:at], is_original=view.kind == "original")
                if label:
                    rest = _REST.match(text, at, start + _LONGEST)
                    at = done = start + len(text[start : rest.end() if rest is not None else at].rstrip(_TRAILING))
                    yield start, at, label
        if self._options.bare and self._options.deny:
            for match in _BARE.finditer(data):
                if match.start() >= done and self._deny.has(host_form(text[match.start() : match.end()])):
                    yield *match.span(), "denied_host"

    def _label(self, url: str, *, is_original: bool) -> str:
        """Why the URL is found. "": it is not."""
        scheme, separator, rest = url.replace("\\", "/").partition("//")
        name = scheme.rstrip(":").lower()
        if not separator:
            rest, name = url, "http"
        elif scheme and name not in _SCHEMES_WITH_HOSTS:
            return ""
        userinfo, at, host = rest.rpartition("@")
        written = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        form = host_form(written)
        # Without a dot it is a name of this network, or no URL: // begins a comment in many programs.
        if ("." not in form and ":" not in form) or _PLACEHOLDERS.search(written) is not None:
            return ""
        if self._deny.has(form):
            return "denied_host"
        is_address = bool(_address(form))
        if self._options.tricks and _is_tricky(userinfo if at else "", written, form, is_address=is_address):
            return "hidden_host"
        if self._options.addresses and is_address:
            return "ip_host"
        # The folded view has letters of one alphabet where the text has two: there the host is another one.
        return "not_allowed_host" if self._options.allow and is_original and not self._allow.has(form) else ""


def _is_tricky(userinfo: str, written: str, form: str, *, is_address: bool) -> bool:
    if "." in userinfo.partition(":")[0]:
        # https://bank.example@other.example
        return True
    if is_address:
        return ":" not in form and written.rstrip(".") != form
    return (not form.isascii() or "xn--" in form) and any(_mixes_alphabets(label) for label in _shown(form).split("."))


def _shown(form: str) -> str:
    try:
        return idna.decode(form)
    except (idna.IDNAError, UnicodeError):
        return form


_LATIN = re.compile("[a-z]")
_LOOKALIKE_ALPHABETS = re.compile("[\u0370-\u03ff\u0400-\u052f\u0530-\u058f\u13a0-\u13ff]")


def _mixes_alphabets(label: str) -> bool:
    return _LATIN.search(label) is not None and _LOOKALIKE_ALPHABETS.search(label) is not None


class _Hosts:
    """Names, and names with all hosts below them."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._exact = frozenset(each for each in patterns if not each.startswith("*."))
        self._below = frozenset(each[2:] for each in patterns if each.startswith("*."))

    def has(self, host: str) -> bool:
        if host in self._exact:
            return True
        parts = host.split(".")[-16:]
        return any(".".join(parts[at:]) in self._below for at in range(1, len(parts)))


class UrlsPlugin:
    """The detector `urls`."""

    options = UrlsOptions

    def build(self, options: UrlsOptions) -> UrlDetector:
        return UrlDetector(options)


PLUGIN = UrlsPlugin()
