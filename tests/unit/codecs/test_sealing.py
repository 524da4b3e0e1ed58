"""Blocks outside of the process are encrypted, and bound to their record."""

from __future__ import annotations

import pytest

from edge_extproc.codecs.sealing import BlockCipher, UnreadableBlock

KEY, OLD = "a key of more than sixteen", "an older key than that one"
TEXT = b'{"input":"a secret plan"}'


def test_a_block_is_read_with_its_key() -> None:
    cipher = BlockCipher([KEY])
    sealed = cipher.seal("acme", "resp_1", TEXT)

    assert TEXT == cipher.open("acme", "resp_1", sealed)
    assert b"secret plan" not in sealed
    assert sealed != cipher.seal("acme", "resp_1", TEXT)


def test_a_former_key_still_reads() -> None:
    sealed = BlockCipher([OLD]).seal("acme", "resp_1", TEXT)

    assert TEXT == BlockCipher([KEY, OLD]).open("acme", "resp_1", sealed)


@pytest.mark.parametrize(
    ("tenant", "id", "change"),
    [
        ("umbrella", "resp_1", lambda sealed: sealed),
        ("acme", "resp_2", lambda sealed: sealed),
        ("acme", "resp_1", lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ("acme", "resp_1", lambda sealed: b"\x02" + sealed[1:]),
        ("acme", "resp_1", lambda sealed: sealed[:7]),
        ("acme", "resp_1", lambda sealed: b""),
    ],
)
def test_a_block_of_another_record_or_a_changed_one_is_not_read(tenant: str, id: str, change) -> None:
    cipher = BlockCipher([KEY])

    with pytest.raises(UnreadableBlock):
        cipher.open(tenant, id, change(cipher.seal("acme", "resp_1", TEXT)))


def test_a_name_cannot_be_shifted_between_tenant_and_id() -> None:
    cipher = BlockCipher([KEY])

    with pytest.raises(UnreadableBlock):
        cipher.open("a", "b:c", cipher.seal("a:b", "c", TEXT))


def test_an_unknown_key_does_not_read() -> None:
    with pytest.raises(UnreadableBlock):
        BlockCipher([KEY]).open("acme", "resp_1", BlockCipher([OLD]).seal("acme", "resp_1", TEXT))
