"""Values that match a pattern, made by chance: keys and tokens of no account."""

from __future__ import annotations

import random
import string
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any


def example(pattern: str, seed: int = 0, *, longest: bool = False) -> str:
    """A text that the pattern matches as a whole, the shortest or (`longest`) one with up to eight more at each
    repetition."""
    pick = random.Random(f"{pattern}{seed}")
    return "".join(_made(parser.parse(pattern), pick, longest))


def width(pattern: str) -> int:
    """The most characters that the pattern can match."""
    most: int = parser.parse(pattern).getwidth()[1]
    return most


def _made(parsed: Any, pick: random.Random, longest: bool) -> list[str]:
    out: list[str] = []
    for code, given in parsed:
        match code:
            case codes.LITERAL:
                out.append(chr(given))
            case codes.IN:
                out.append(pick.choice(_class(given)))
            case codes.MAX_REPEAT:
                least, most, inner = given
                count = min(most, least + 8) if longest else least
                for _ in range(count):
                    out += _made(inner, pick, longest)
            case codes.SUBPATTERN:
                out += _made(given[3], pick, longest)
            case codes.BRANCH:
                out += _made(pick.choice(given[1]), pick, longest)
            case codes.NOT_LITERAL:
                out.append("A")
            case _:
                raise NotImplementedError(code)
    return out


def _class(parts: Any) -> str:
    if parts[0][0] is codes.NEGATE:
        refused = _class(parts[1:])
        return "".join(each for each in string.ascii_letters + string.digits if each not in refused)
    chosen = ""
    for code, given in parts:
        match code:
            case codes.RANGE:
                chosen += "".join(map(chr, range(given[0], given[1] + 1)))
            case codes.LITERAL:
                chosen += chr(given)
            case codes.CATEGORY:
                chosen += " "
    # A value ends with a letter or a digit, so that what follows it is no part of it.
    return "".join(each for each in chosen if each.isalnum()) or chosen.replace("\t", "")
