"""The views of a text, and the places in the original text."""

from __future__ import annotations

import base64
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.guardrails.confusables import replacements
from edge_extproc.guardrails.normalised_text import TextView, views_of


def places(text: str, wanted: str) -> list[tuple[str, str]]:
    """The kind of each view with the wanted text, and the characters of the original that have it."""
    found = []
    for view in views_of(text):
        at = view.text.find(wanted)
        if at >= 0:
            start, end = view.original(at, at + len(wanted))
            found.append((view.kind, text[start:end]))
    return found


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(each)) for each in text)


def selectors(text: str) -> str:
    return "".join(chr(0xFE00 + code if code < 16 else 0xE0100 + code - 16) for code in text.encode())


def test_a_plain_text_has_one_view() -> None:
    text = 'def read(path: str) -> str:\n\treturn open("a/b.txt").read()  # {"key": ["value", 12.5]}'

    assert [("original", text)] == [(view.kind, view.text) for view in views_of(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Voilà : la réponse n'est pas « prête », désolé…",
        "你好，世界。这是一个测试！（真的）",
        "Привет, мир: это ответ на вопрос 42.",
        "مرحبا بالعالم",
        "Emoji with a joiner: 👩‍💻 ✅️ and a flag 🇩🇪",
    ],
)
def test_usual_text_of_other_languages_has_one_view(text: str) -> None:
    """Each view costs time."""
    assert ["original"] == [view.kind for view in views_of(text)]


@pytest.mark.parametrize(
    ("text", "kind", "original"),
    [
        ("a ｓｅｃｒｅｔ b", "folded", "ｓｅｃｒｅｔ"),
        ("a 𝐬𝒆𝓬𝔯𝕖𝖙 b", "folded", "𝐬𝒆𝓬𝔯𝕖𝖙"),
        ("a ⓢⓔⓒⓡⓔⓣ b", "folded", "ⓢⓔⓒⓡⓔⓣ"),
        ("a s\u200be\u200dc\u2060r\ufeffe\u00adt b", "folded", "s\u200be\u200dc\u2060r\ufeffe\u00adt"),
        ("a sеcrеt b", "folded", "sеcrеt"),
        ("a s\u0336e\u0336c\u0336r\u0336e\u0336t\u0336 b", "folded", "s\u0336e\u0336c\u0336r\u0336e\u0336t"),
        ("a şëçřèţ b", "folded", "şëçřèţ"),
        ("a ꜱᴇᴄʀᴇᴛ b", "folded", "ꜱᴇᴄʀᴇᴛ"),
        ("a %73%65%63ret b", "unescaped", "%73%65%63ret"),
        ("a %2573ecret b", "unescaped", "%2573ecret"),
        ("a \\u0073ecret b", "unescaped", "\\u0073ecret"),
        ("a \\\\u0073ecret b", "unescaped", "\\\\u0073ecret"),
        ("a \\x73ecret b", "unescaped", "\\x73ecret"),
        ("a &#115;&#x65;cret b", "unescaped", "&#115;&#x65;cret"),
        ("a 'sec' + 'ret' b", "unescaped", "sec' + 'ret"),
        ("a s e c r e t b", "joined", "s e c r e t"),
        ("a s-e-c-r-e-t b", "joined", "s-e-c-r-e-t"),
        ("a s.e.c.r.e.t b", "joined", "s.e.c.r.e.t"),
        (f"a {b64('one secret thing')} b", "decoded", "HNlY3JldC"),
        (f"a {b64(b64('one secret thing'))} b", "decoded", None),
        (f"a {b64(b64(b64('one secret thing')))} b", "decoded", None),
        (f"a {b64('ein ßecret, one secret thing')} b", "decoded", None),
        (f"a {b'one secret thing'.hex()} b", "decoded", b"secret".hex()),
        (f"a {b'one secret thing'.hex(' ')} b", "decoded", b"secret".hex(" ")),
        (f"a {', '.join(hex(each) for each in b'one secret thing')} b", "decoded", None),
        ("https://host/path/" + b64("one secret thing") + " b", "decoded", None),
        (base64.b64encode("one secret thing".encode("utf-16-le")).decode(), "decoded", None),
        ("\n".join(textwrap.wrap(b64("a text that is long " * 5 + "one secret thing"), 64)), "decoded", None),
        ("hello" + tags("a secret text"), "hidden", tags("secret")),
        ("hello😀" + selectors("a secret text"), "hidden", selectors("secret")),
    ],
)
def test_a_form_of_the_text_is_found_at_its_place(text: str, kind: str, original: str | None) -> None:
    found = dict(places(text, "secret"))

    assert kind in found
    if original is not None:
        assert original == found[kind]


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_a_place_in_base64_has_all_characters_with_a_bit_of_it(before: int, after: int) -> None:
    """Without them, no encoding of any part of the value is left."""
    value = "secret value"
    text = b64("-" * (3 + before) + value + "-" * (3 + after))
    ((_, original),) = places(text, value)

    start = text.index(original)
    assert 8 * (3 + before) // 6 == start
    assert -(-8 * (3 + before + len(value)) // 6) == start + len(original)


def test_a_picture_in_base64_is_no_text() -> None:
    picture = base64.b64encode(bytes(range(256)) * 40).decode()

    assert ["original"] == [view.kind for view in views_of(f"data:image/png;base64,{picture}")]


def test_the_flag_of_scotland_is_no_hidden_text() -> None:
    flag = "\U0001f3f4" + tags("gbsct") + "\U000e007f"

    assert "hidden" not in {view.kind for view in views_of(f"Hello {flag}!")}


def test_encodings_are_decoded_up_to_three_levels() -> None:
    text = "one secret thing"
    for _ in range(4):
        text = b64(text)

    assert [] == places(text, "secret")


def test_each_replacement_is_ascii() -> None:
    assert all(plain.isascii() and not character.isascii() for character, plain in replacements().items())
    assert "a" == replacements()["а"]


def check_places(views: tuple[TextView, ...], text: str) -> None:
    for view in views:
        assert len(view.text) == len(view.ascii)
        for start in range(0, len(view.text), max(1, len(view.text) // 7)):
            for end in (start + 1, len(view.text)):
                first, last = view.original(start, end)

                assert 0 <= first < last <= len(text)


# Any character, surrogates too, and those that the views change.
SPECIAL = st.sampled_from(
    [
        "%41",
        "\\u0041",
        "&#65;",
        "&amp;",
        "'+'",
        "ﬁ",
        "…",
        "\u200b",
        "а",
        "A",
        " ",
        "=",
        "é",
        "\U000e0041",
        "\ufe01",
        "Ａ",
    ]
)
ANY = st.lists(st.one_of(st.text(st.characters(), max_size=8), SPECIAL), max_size=40).map("".join)
ENCODED = st.one_of(
    ANY,
    ANY.map(lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode()),
    ANY.map(lambda text: text.encode("utf-8", "replace").hex()),
    ANY.map(lambda text: base64.b64encode(text.encode("utf-16-le", "replace")).decode()),
    st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()),
    st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.binary(max_size=200).map(lambda data: data.decode("latin-1")),
)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(ENCODED, min_size=1, max_size=4).map(" ".join))
def test_each_place_of_each_view_is_in_the_text(text: str) -> None:
    check_places(views_of(text), text)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "%",
        "\\",
        "&",
        "%25",
        "\\u005c",
        "&amp;",
        "a ",
        "a.",
        "'+'",
        "41 ",
        "A\u200b",
        "а",
        "é",
        "QUFB",
        "Ａ",
        "\u0301",
        "\ufe01",
        "QUFBQUFBQUFBQUFBQUFBQUFB ",
    ],
)
def test_the_views_grow_with_the_text_only(unit: str) -> None:
    """The characters of all views are what the detectors read."""
    sizes = [sum(len(view.text) for view in views_of(unit * count)) for count in (500, 1000, 2000)]

    assert sizes[2] <= 2 * sizes[1] + 100
    assert sizes[2] <= 8 * 2000 * len(unit)
