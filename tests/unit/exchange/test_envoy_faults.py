import pytest

from edge_extproc.exchange.envoy_faults import fault_of


@pytest.mark.parametrize(
    ("status", "details", "told"),
    [
        (503, "upstream_reset_before_response_started{connection_termination}", (502, "provider_unreachable")),
        (504, "upstream_per_try_timeout", (504, "provider_timeout")),
        (503, "no_healthy_upstream", (503, "no_provider")),
        (413, "request_payload_too_large", (413, "request_too_large")),
        (500, "response_payload_too_large", (502, "response_too_large")),
        (503, "edge_exchange_unknown", (503, "worker_lost")),
        (418, "something_new{host=secret.internal}", (418, "gateway_error")),
    ],
)
def test_envoys_own_replies_are_told_in_our_words(status, details, told):
    fault = fault_of(status, details)

    assert told == (fault.status, fault.code)
    assert "secret" not in fault.message
