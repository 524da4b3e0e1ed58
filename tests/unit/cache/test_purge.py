"""What an operator may ask to be purged."""

import json

import pytest

from edge_extproc.cache.base import PurgeSelection
from edge_extproc.cache.purge import read_selection, write_selection
from edge_extproc.errors import BadRequest


@pytest.mark.parametrize(
    ("wanted", "selection"),
    [
        ({"tenant": "acme"}, PurgeSelection(tenant="acme")),
        ({"tenant": "acme", "model": "gpt-4o"}, PurgeSelection(tenant="acme", model="gpt-4o")),
        ({"key": "ab" * 32}, PurgeSelection(digest=b"\xab" * 32)),
        ({"shared": True}, PurgeSelection(shared=True)),
        ({"all": True}, PurgeSelection()),
    ],
)
def test_a_selection_is_read(wanted, selection):
    assert selection == read_selection(json.dumps(wanted).encode())
    assert selection == read_selection(write_selection(selection))


@pytest.mark.parametrize(
    "wanted", [b"", b"[]", b"{}", b'{"tenant":""}', b'{"tennant":"acme"}', b'{"tenant":1}', b'{"all":true,"model":"m"}']
)
def test_what_would_purge_by_mistake_is_refused(wanted):
    with pytest.raises(BadRequest, match="give any of tenant, model, key and shared"):
        read_selection(wanted)


@pytest.mark.parametrize("key", ["ab", "zz" * 32])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(BadRequest, match="key must be 64 hexadecimal digits"):
        read_selection(json.dumps({"key": key}).encode())
