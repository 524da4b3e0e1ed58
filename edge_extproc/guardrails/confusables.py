"""Characters that look like ASCII characters, and characters that are invisible.

The principle is Unicode's (UTS #39, confusable detection): a character is replaced by the character that it looks like.
This table has only what looks like ASCII, because all patterns of the detectors are for ASCII or for the letters of one
other alphabet. Compatibility characters, such as fullwidth and mathematical letters, are not in the table: their
replacement is their NFKC form.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Final

# Pairs: the characters, and what they look like at the same place.
_LOOKALIKES: Final = (
    # Cyrillic
    ("авгеёѕіїјкмнорстухһԁԛԝԍпьѵӏүҽҿԏꙇ", "abreesiijkmhopctyxhdqwgnbvlyeegi"),
    ("АВЕЁЅІЇЈКМНОРСТУХҺԀԚԜԌѴӀҮЗЬ", "ABEESIIJKMHOPCTYXHDQWGVIY3b"),
    # Greek
    ("αβγεηικνορστυχωϲϳ", "abyenikvopotuxwcj"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϺ", "ABEZHIKMNOPTYXCM"),
    # Armenian, and Hebrew letters
    ("օոսհցզյՕՍՏև", "onuhgqjOUSu"),
    ("סןו", "oil"),
)
# Alphabets in which nobody writes beside their own users, and letters of phonetics.
_RARE_LOOKALIKES: Final = (
    # Latin: phonetic letters, small capitals, letters with strokes and hooks
    ("ıȷɑɡɩʋɐəɛɜɪᴉɔɯʍʌ", "ijagivaeeeiicmwv"),
    ("ᴀʙᴄᴅᴇꜰɢʜᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢꞯ", "abcdefghjklmnoprstuvwyzq"),
    ("ƀɓƈɗƒɠħɦɨƙɫɱɲɵƥʠɾʂƭʉʋƴƶ", "bbcdfghhiklmnopqrstuvyz"),
    # Cherokee
    ("ᎠᎡᎢᎥᎩᎪᎫᎬᎳᎷᎻᎽᏀᏂᏃᏎᏏᏒᏔᏕᏙᏚᏞᏟᏢᏦᏧᏳᏴᏵᏋᏆᎾ", "DRTiyAJEWMHYGhZ4bRWSVSLCPKdGBGEIO"),
    # Lisu
    ("ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ", "BPdDTGKJCZFMNLSRVHWXYAEIOU"),
    # Coptic
    ("ⲀⲂⲈⲎⲒⲔⲘⲚⲞⲢⲤⲦⲨⲬⲟⲣⲥⲭ", "ABEHIKMNOPCTYXopcx"),
)
_PUNCTUATION: Final = (
    ("‐‑‒–—―−⁃﹘➖", "----------"),
    ("‘’‚‛′‵ʹʼˈ`´", "'''''''''''"),
    ("“”„‟″〝〞", '"""""""'),
    ("∕⁄⧸⟋", "////"),
    ("∶ː꞉︓׃", ":::::"),
    ("·•∙⋅。", "....."),
    ("∗⁎✱＊", "****"),
    ("‹›〈〉", "<><>"),
    ("ǃ", "!"),
)
# Of the Unicode property Default_Ignorable_Code_Point, and of the format characters (Cf): what shows nothing.
_INVISIBLE_RANGES: Final = (
    (0xAD, 0xAD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE01EF),
)
_COMBINING_RANGES: Final = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
# Letters in squares and circles that have no NFKC form. Each range begins with A.
_ENCLOSED_ALPHABETS: Final = (0x1F150, 0x1F170, 0x1F1E6)
# Digits of other alphabets. Each range begins with zero.
_DIGITS: Final = (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50)
# Where compatibility characters of ASCII are.
_COMPATIBILITY_RANGES: Final = (
    (0x80, 0x24F),
    (0x1D2C, 0x1EFF),
    (0x2000, 0x24FF),
    (0x2C60, 0x2C7F),
    (0x3000, 0x33FF),
    (0xFB00, 0xFB06),
    (0xFE10, 0xFE6F),
    (0xFF00, 0xFFEF),
    (0x1D400, 0x1D7FF),
    (0x1F100, 0x1F14F),
)


def _characters(ranges: tuple[tuple[int, int], ...]) -> Iterator[str]:
    return (chr(code) for first, last in ranges for code in range(first, last + 1))


def _in_class(ranges: tuple[tuple[int, int], ...]) -> str:
    """The ranges as they are in a character class of a pattern."""
    return "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in ranges)


INVISIBLE_CLASS: Final = _in_class(_INVISIBLE_RANGES)
"""For RE2: the ranges of a character class."""
COMBINING_CLASS: Final = _in_class(_COMBINING_RANGES)
DIGIT_CLASS: Final = _in_class(tuple((first, first + 9) for first in _DIGITS))
RARE_CLASS: Final = "".join(rare for rare, _ in _RARE_LOOKALIKES)
"""Characters that show that a text needs a replacement, whatever is beside them."""
MIXED_CLASS: Final = "".join(letters for letters, _ in _LOOKALIKES)
"""Letters of alphabets that many people write. They show it only inside of a word with Latin letters."""


def _plain(character: str) -> str:
    """The ASCII form by Unicode's tables, without accents. The character itself if there is none."""
    decomposed = unicodedata.normalize("NFKD", character)
    plain = "".join(each for each in decomposed if not unicodedata.combining(each))
    return plain.replace("⁄", "/") if plain.replace("⁄", "/").isascii() else character


@cache
def replacements() -> dict[str, str]:
    """The replacement of each character that has one. "": the character is removed."""
    table = dict.fromkeys((*_characters(_INVISIBLE_RANGES), *_characters(_COMBINING_RANGES)), "")
    for character in _characters(_COMPATIBILITY_RANGES):
        plain = _plain(character)
        if plain != character and plain:
            table[character] = plain
    for first in _ENCLOSED_ALPHABETS:
        table |= {chr(first + place): chr(65 + place) for place in range(26)}
    for first in _DIGITS:
        table |= {chr(first + number): str(number) for number in range(10)}
    for characters, ascii_characters in (*_LOOKALIKES, *_RARE_LOOKALIKES, *_PUNCTUATION):
        table |= dict(zip(characters, ascii_characters, strict=True))
    return {character: plain for character, plain in table.items() if not character.isascii()}
