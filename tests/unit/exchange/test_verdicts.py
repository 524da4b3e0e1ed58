"""What each end of an exchange says of its providers."""

from dataclasses import replace

import pytest

from edge_extproc.exchange.open import AttemptLog
from edge_extproc.exchange.verdicts import LastAttempt, attempt_results
from edge_extproc.model.plan import AttemptResult, Candidate, Plan

A, B, C = (Candidate(name, "m") for name in "abc")
PLAN = Plan((A, B, C))


def last(candidate=None, status=200, details="via_upstream", *, broken=False, whole=True, first_token_at=None):
    return LastAttempt(candidate, status, details, broken, whole, first_token_at, ended=20.0, stream=True, usage=None)


def verdicts(found):
    return [(tried.candidate.provider, tried.verdict, tried.reason) for tried in found]


@pytest.mark.parametrize(
    ("end", "verdict", "reason"),
    [
        (last(A), "ok", ""),
        (last(A, 400), "ok", "400"),
        (last(A, 401), "ok", "401"),
        (last(A, 408), "failed", "408"),
        (last(A, 409), "ok", "409"),
        (last(A, 429), "failed", "429"),
        (last(A, 500), "failed", "500"),
        (last(A, 529), "failed", "529"),
        (last(A, broken=True, whole=False), "failed", "broken"),
        (last(A, whole=False), "unknown", ""),
        (last(None, None, "", whole=False), "unknown", ""),
        (last(None, 503, "upstream_reset_before_response_started{x}", whole=False), "failed", "unreachable"),
        (last(None, 504, "upstream_per_try_timeout", whole=False), "failed", "unreachable"),
        (last(None, 504, "response_timeout", whole=False), "failed", "unreachable"),
        (last(None, 503, "no_healthy_upstream", whole=False), "failed", "no_host"),
        (last(None, 503, "overload", whole=False), "unknown", ""),
        (last(None, 413, "request_payload_too_large", whole=False), "unknown", ""),
    ],
)
def test_the_last_try(end, verdict, reason):
    assert [("a", verdict, reason)] == verdicts(attempt_results(PLAN, AttemptLog({1: 10.0}), 1, end))


def test_tries_before_the_last_one_have_failed():
    found = attempt_results(PLAN, AttemptLog({1: 10.0, 2: 15.0}), 2, last(B, first_token_at=16.0))

    assert [("a", "failed", "retried"), ("b", "ok", "")] == verdicts(found)
    assert (1.0, 5.0) == (found[1].first_token, found[1].duration)


def test_a_caller_that_left_during_a_retry_leaves_the_last_try_open():
    found = attempt_results(PLAN, AttemptLog({1: 10.0, 2: 15.0}), 0, last(None, None, "", whole=False))

    assert [("a", "failed", "retried"), ("b", "unknown", "")] == verdicts(found)


def test_what_was_watched_at_the_upstream_level_is_told_as_it_was_seen():
    watched = AttemptResult(A, "failed", 200, "empty")

    assert [watched, "ok"] == [
        each if n == 0 else each.verdict
        for n, each in enumerate(attempt_results(PLAN, AttemptLog({1: 1.0, 2: 2.0}, {1: watched}), 2, last(B)))
    ]
    assert (watched,) == attempt_results(PLAN, AttemptLog({1: 1.0}, {1: watched}), 1, last(A, 503, whole=False))


def test_how_long_a_provider_wants_to_rest_is_told_of_a_failure_alone():
    failing, fine = (replace(last(A, status), retry_after=30.0) for status in (429, 400))

    assert [30.0, None] == [
        attempt_results(PLAN, AttemptLog({1: 1.0}), 1, each)[-1].retry_after for each in (failing, fine)
    ]


@pytest.mark.parametrize(("in_headers", "wanted"), [(None, 30.0), (5.0, 5.0)])
def test_a_rest_that_stands_only_in_the_body_is_added_to_what_was_watched(in_headers, wanted):
    watched = AttemptResult(A, "failed", 429, "429", retry_after=in_headers)
    end = replace(last(A, 429), retry_after=30.0)

    assert [wanted] == [each.retry_after for each in attempt_results(PLAN, AttemptLog({1: 1.0}, {1: watched}), 1, end)]


def test_a_slower_try_of_a_hedged_call_has_not_failed():
    hedged = Plan((A, B), hedged=True)
    journal = AttemptLog({1: 10.0, 2: 12.0})

    assert [("a", "unknown", "retried"), ("b", "ok", "")] == verdicts(attempt_results(hedged, journal, 2, last(B)))
    first_won = attempt_results(hedged, journal, 2, last(A, first_token_at=13.0))
    assert [("b", "unknown", ""), ("a", "ok", "")] == verdicts(first_won)
    assert 3.0 == first_won[-1].first_token
