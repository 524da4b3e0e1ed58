"""The empty mapping behaves as any other."""

from edge_extproc.model.content import Nothing


def test_the_empty_mapping_has_no_value_and_gives_the_default() -> None:
    nothing = Nothing()

    assert (None, 7) == (nothing.get("a"), nothing.get("a", 7))
    assert {} == dict(nothing)
    assert not nothing
    assert "a" not in nothing
