"""What may be seen of Envoy's own lines at debug."""

from __future__ import annotations

import pytest

from edge_extproc.telemetry.envoy_log import cleaned


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("'authorization', 'Bearer abc'", "'authorization', '***'"),
        ("'x-my-own', 'anything'", "'x-my-own', '***'"),
        ("':path', '/v1/models?key=abc'", "':path', '***'"),
        ("':method', 'POST'", "':method', 'POST'"),
        ("'content-type', 'application/json; charset=utf-8'", "'content-type', 'application/json; charset=utf-8'"),
        ("'content-type', 'me@example.org'", "'content-type', '***'"),
        ("'x-custom', 'it''s mine, and not yours", "'x-custom', '***'"),
        ("'x-custom', 'a value that goes on", "'x-custom', '***'"),
        ("got headers: 'a', 'one' 'b', 'two'", "got headers: 'a', '***' 'b', '***'"),
        ('        key: "authorization"', '        key: "authorization"'),
        ('          raw_value: "anything"', '          raw_value: "***"'),
        ('      body: "data: {\\"content\\":\\"hello\\"}', '      body: "***"'),
        ("[debug][http] closing, key sk-proj-0123456789abcdef", "[debug][http] closing, key ***"),
        ('{"flags": "-", "edge": {"tenant": "acme"}}', '{"flags": "-", "edge": {"tenant": "acme"}}'),
    ],
)
def test_no_header_tells_its_value_but_a_harmless_one(line, shown):
    assert shown == cleaned(line)
