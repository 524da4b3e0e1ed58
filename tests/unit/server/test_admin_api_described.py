"""The admin API keeps to its own description, whatever is sent: generated requests, none of which may be a 5xx."""

from __future__ import annotations

import schemathesis
from admin_kit import open_api, secret_of
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from thoroughness import examples

schema = schemathesis.openapi.from_asgi("/admin/v1/openapi.json", open_api().app)


@schema.parametrize()
@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case: schemathesis.Case) -> None:
    answer = case.call(headers={"authorization": f"Bearer {secret_of('root')}"})

    case.validate_response(
        answer,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
