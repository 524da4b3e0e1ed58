"""The admin API keeps to its own description, whatever is sent: generated requests, none of which may be a 5xx.

Each process of a run collects this module, and one of them runs the test. So the test imports schemathesis and makes
the requests, not the module. For the same reason, the plugin of schemathesis is off (pyproject.toml).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from admin_kit import open_api, secret_of
from hypothesis import HealthCheck, settings
from thoroughness import examples, is_long

if TYPE_CHECKING:
    import schemathesis

PART_OF_OPERATIONS = 3
"""An ordinary run tries other ones each time."""


@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
def every_answer_is_as_described(case: schemathesis.Case) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

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


def test_every_answer_is_as_described(subtests: pytest.Subtests) -> None:
    """Each operation is a subtest: requests that follow from the description, and random ones."""
    import schemathesis
    from schemathesis.pytest.lazy import get_all_tests

    schema = schemathesis.openapi.from_asgi("/admin/v1/openapi.json", open_api().app)
    tests = [
        each.ok()
        for each in get_all_tests(
            schema=schema, test_func=every_answer_is_as_described, settings=None, given_kwargs=None
        )
    ]

    assert tests
    chosen = tests if is_long() else random.sample(tests, len(tests) // PART_OF_OPERATIONS)
    for operation, test in chosen:
        with subtests.test(operation.label):
            test()
