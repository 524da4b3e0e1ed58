"""Signatures held to AWS's published vectors, and to botocore's signer on random requests."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.providers.credentials.base import UnsignedRequest
from edge_extproc.providers.credentials.sigv4 import AwsKeys, SigV4, sign

# The keys and the moment of AWS's own test suite for Signature Version 4.
KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()

SEGMENT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12).map(lambda s: quote(s, safe=""))
PATHS = st.lists(SEGMENT, max_size=5).map(lambda segments: "/" + "/".join(segments))
QUERIES = st.lists(st.tuples(SEGMENT, SEGMENT), max_size=4).map(lambda pairs: "&".join(f"{k}={v}" for k, v in pairs))
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("method", "path", "signature"),
    [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("GET", "//", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/foo/bar/../..", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ],
)
def test_the_published_vectors_hold(method, path, signature):
    request = UnsignedRequest(method, "example.amazonaws.com", path)
    headers = dict(sign(request, KEYS, "us-east-1", "service", MOMENT))

    expected = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )
    assert {"x-amz-date": "20150830T123600Z", "authorization": expected} == headers


def botocores(request, keys, region, service, moment):
    """What botocore's signer adds to the same request."""
    theirs = AWSRequest(
        request.method, f"https://{request.host}{request.path}", headers={"host": request.host}, data=request.body
    )
    fixed = datetime.fromtimestamp(moment, UTC)
    with patch("botocore.auth.get_current_datetime", lambda **_: fixed.replace(tzinfo=None)):
        SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.session_token), service, region).add_auth(theirs)
    return {name.lower(): str(value) for name, value in theirs.headers.items() if name.lower() != "host"}


@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    PATHS,
    QUERIES,
    st.binary(max_size=200),
    st.builds(AwsKeys, WORDS, WORDS, st.none() | WORDS),
    st.integers(946684800, 4102444800),
)
def test_botocore_signs_alike(method, path, query, body, keys, moment):
    request = UnsignedRequest(
        method, "bedrock-runtime.eu-central-1.amazonaws.com", path + (f"?{query}" if query else ""), body
    )

    theirs = botocores(request, keys, "eu-central-1", "bedrock", moment)
    assert theirs == dict(sign(request, keys, "eu-central-1", "bedrock", moment))


def test_an_arn_in_the_path_is_signed_as_bedrock_reads_it():
    arn = quote("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1", safe="")
    request = UnsignedRequest("POST", "bedrock-runtime.us-east-1.amazonaws.com", f"/model/{arn}/converse", b"{}")

    assert botocores(request, KEYS, "us-east-1", "bedrock", MOMENT) == dict(
        sign(request, KEYS, "us-east-1", "bedrock", MOMENT)
    )


def test_each_request_is_signed_with_what_holds_at_its_moment():
    keys, moments = [KEYS, AwsKeys("AKIDOTHER", "s", "t")], [MOMENT, MOMENT + 60]
    credential = SigV4(lambda: keys.pop(0), "us-east-1", "bedrock", lambda: moments.pop(0))
    request = UnsignedRequest("POST", "h", "/", b"")
    first, second = dict(credential.headers(request)), dict(credential.headers(request))

    assert "AKIDEXAMPLE" in first["authorization"]
    assert ("t", "20150830T123700Z") == (second["x-amz-security-token"], second["x-amz-date"])
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token" in second["authorization"]


def test_no_repr_shows_a_key():
    assert "AwsKeys()" == repr(AwsKeys("AKIA", "secret", "token"))
