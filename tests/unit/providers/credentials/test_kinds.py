"""Each kind of credential against a local stand-in for the service that gives it, through the cloud's own library."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edge_extproc import registry
from edge_extproc.errors import ConfigError, Unavailable
from edge_extproc.providers.credentials import aws, azure, google
from edge_extproc.providers.credentials.base import CredentialSettings, UnsignedRequest
from edge_extproc.providers.credentials.files import SecretFile
from edge_extproc.providers.credentials.refresh import CredentialRefreshers

REQUEST = UnsignedRequest("POST", "host.example", "/model/m/converse", b"{}")


class Service:
    """A loopback HTTP server: `answers` by path prefix; what it was asked lies in `asked`."""

    def __init__(self):
        self.asked = []
        self.answers = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length).decode()
                service.asked.append((self.path, dict(self.headers), body))
                found = (answer for prefix, answer in service.answers.items() if self.path.startswith(prefix))
                status, kind, text = next(found, (404, "text/plain", ""))
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args):
                pass

        for method in ("GET", "POST", "PUT"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def json(self, prefix, value, status=200):
        self.answers[prefix] = (status, "application/json", json.dumps(value))


@pytest.fixture
def service():
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def heard():
    return []


@pytest.fixture
async def hold(heard):
    """Builds a credential of a kind and returns it once its first fetch is over."""
    started = []

    async def build(kind, options=None, secrets=None, region="us-east-1"):
        keepers = CredentialRefreshers(lambda: datetime.now(UTC).timestamp(), lambda *told: heard.append(told))
        settings = CredentialSettings("p", "bedrock", region, options or {}, secrets or {})
        credential = registry.load("providers.credentials", kind).build(
            settings, keepers.of("p"), lambda: datetime.now(UTC).timestamp()
        )
        await keepers.start(20)
        started.append(keepers)
        return credential

    yield build
    for keepers in started:
        await keepers.stop()


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """An environment in which no cloud's tools find anything of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return monkeypatch


def soon(**delta):
    return datetime.now(UTC) + timedelta(**delta)


# --- aws


async def test_aws_signs_with_keys_of_config_and_fetches_nothing(hold, heard):
    keys = {
        "access_key_id": lambda: "AKIDEXAMPLE",
        "secret_access_key": lambda: "secret",
        "session_token": lambda: "token",
    }
    headers = dict((await hold("aws", secrets=keys)).headers(REQUEST))

    assert "Credential=AKIDEXAMPLE/" in headers["authorization"]
    assert "/us-east-1/bedrock/aws4_request" in headers["authorization"]
    assert "token" == headers["x-amz-security-token"]
    assert [] == heard


async def test_aws_finds_a_profile(hold, bare, tmp_path):
    (tmp_path / "credentials").write_text("[prod]\naws_access_key_id=AKIDPROFILE\naws_secret_access_key=s\n")
    credential = await hold("aws", {"profile": "prod"})

    assert "Credential=AKIDPROFILE/" in dict(credential.headers(REQUEST))["authorization"]


async def test_aws_finds_what_the_container_gives(hold, bare, service, heard):
    service.json(
        "/creds",
        {"AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "s", "Token": "t", "Expiration": soon(hours=6).isoformat()},
    )
    bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/creds")
    bare.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
    headers = dict((await hold("aws")).headers(REQUEST))

    assert "Credential=ASIACONTAINER/" in headers["authorization"]
    assert "t" == headers["x-amz-security-token"]
    assert heard[0][2] == pytest.approx(soon(hours=6).timestamp(), abs=60)


async def test_aws_finds_the_role_of_a_service_account(hold, bare, service, tmp_path):
    (tmp_path / "token").write_text("the-web-identity-token")
    service.answers["/"] = (
        200,
        "text/xml",
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAIRSA</AccessKeyId>"
        "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        f"<Expiration>{soon(hours=1).strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration></Credentials>"
        "<AssumedRoleUser><AssumedRoleId>a</AssumedRoleId><Arn>arn:aws:sts::1:r</Arn></AssumedRoleUser>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
    )
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/gateway")
    bare.setenv("AWS_ENDPOINT_URL_STS", service.url)
    bare.setenv("AWS_REGION", "us-east-1")
    credential = await hold("aws")

    assert "Credential=ASIAIRSA/" in dict(credential.headers(REQUEST))["authorization"]
    assert ["the-web-identity-token"] == parse_qs(service.asked[0][2])["WebIdentityToken"]


async def test_aws_without_any_credentials_is_told_and_unavailable(hold, bare, heard):
    credential = await hold("aws")

    with pytest.raises(Unavailable):
        credential.headers(REQUEST)
    assert ("p", "LookupError", None) == heard[0]


async def test_aws_needs_a_region():
    with pytest.raises(ConfigError, match="'p': AWS signatures need a region"):
        aws.PLUGIN.build(
            CredentialSettings("p", "bedrock"), CredentialRefreshers(lambda: 0.0, print).of("p"), lambda: 0.0
        )


# --- google


@pytest.fixture
def service_account(tmp_path, service):
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = tmp_path / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "project",
                "private_key_id": "k",
                "private_key": pem,
                "client_email": "gateway@project.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": f"{service.url}/token",
            }
        )
    )
    return path


async def test_google_gets_a_token_for_a_service_account(hold, bare, service, service_account, heard):
    service.json("/token", {"access_token": "ya29.first", "expires_in": 3600, "token_type": "Bearer"})
    credential = await hold("google", {"file": str(service_account)})

    assert (("authorization", "Bearer ya29.first"),) == credential.headers(REQUEST)
    (_, _, body) = service.asked[0]
    claims = parse_qs(body)["assertion"][0].split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert ("gateway@project.iam.gserviceaccount.com", google.SCOPE) == (told["iss"], told["scope"])
    assert heard[0][2] == pytest.approx(soon(hours=1).timestamp(), abs=60)


async def test_google_trades_the_token_of_a_workload(hold, bare, service, tmp_path):
    (tmp_path / "oidc").write_text("the-workload-token")
    service.json(
        "/sts",
        {
            "access_token": "ya29.workload",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 3600,
        },
    )
    path = tmp_path / "workload.json"
    path.write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{service.url}/sts",
                "credential_source": {"file": str(tmp_path / "oidc")},
            }
        )
    )
    credential = await hold("google", {"file": str(path)})

    assert (("authorization", "Bearer ya29.workload"),) == credential.headers(REQUEST)
    assert ["the-workload-token"] == parse_qs(service.asked[0][2])["subject_token"]


async def test_google_refused_is_told_and_unavailable(hold, bare, service, service_account, heard):
    service.json("/token", {"error": "invalid_grant"}, 400)
    credential = await hold("google", {"file": str(service_account)})

    with pytest.raises(Unavailable):
        credential.headers(REQUEST)
    assert ("p", "RefreshError", None) == heard[0]


@pytest.mark.parametrize(
    "said",
    [
        {"type": "authorized_user"},
        {"type": "external_account", "credential_source": {"executable": {"command": "rm"}}},
        {},
    ],
)
async def test_google_takes_no_file_that_would_run_something(tmp_path, said):
    (tmp_path / "file").write_text(json.dumps(said))

    with pytest.raises(ValueError, match="not a service account"):
        await google.GoogleTokens(str(tmp_path / "file"))()


# --- azure


async def test_azure_gets_a_token_for_an_application(hold, bare, heard, monkeypatch):
    """The library insists on https, so its transport is what stands in for the network."""
    from azure.core.pipeline.transport import HttpTransport
    from azure.identity import ClientSecretCredential

    asked = []

    class Entra(HttpTransport):
        def open(self): ...
        def close(self): ...
        def __exit__(self, *args): ...

        def send(self, request, **_):
            asked.append((request.url, request.body))
            tenant = "https://login.microsoftonline.com/tenant"
            if "openid-configuration" in request.url:
                value = {
                    "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                    "issuer": f"{tenant}/v2.0",
                }
            else:
                value = {"access_token": "entra", "expires_in": 3600, "token_type": "Bearer"}
            return Answer(request, json.dumps(value))

    class Answer:
        status_code = 200
        reason = "OK"
        content_type = "application/json"

        def __init__(self, request, text):
            self.headers = {"content-type": "application/json"}
            self.request = self.http_request = request
            self._text = text

        def text(self, encoding=None):
            return self._text

        def body(self):
            return self._text.encode()

    def make():
        return ClientSecretCredential("tenant", "client", "hush", transport=Entra(), disable_instance_discovery=True)

    held = await azure.AzureTokens(make, azure.SCOPE)()

    assert "entra" == held.value
    assert held.expires_at == pytest.approx(soon(hours=1).timestamp(), abs=60)
    body = next(body for url, body in asked if url.endswith("/token"))
    assert ("client", "hush", azure.SCOPE) == (body["client_id"], body["client_secret"], body["scope"].split()[0])


async def test_azure_finds_the_identity_of_a_workload(hold, bare, service, heard):
    """App Service's own endpoint, which azure-identity's default asks where these variables stand."""
    ends = str(int(soon(hours=1).timestamp()))
    service.json("/msi", {"access_token": "managed", "expires_on": ends, "resource": "r"})
    bare.setenv("IDENTITY_ENDPOINT", f"{service.url}/msi/token")
    bare.setenv("IDENTITY_HEADER", "header")
    credential = await hold("azure", {"client_id": "mine"})

    assert (("authorization", "Bearer managed"),) == credential.headers(REQUEST)
    assert any("client_id=mine" in path for path, _, _ in service.asked)


# --- files


async def test_a_secret_in_a_file_follows_the_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("first\n")
    source = SecretFile(path, lambda: 1000.0)

    assert ("first", None, 1002.0) == ((held := await source()).value, held.expires_at, held.refresh_at)
    assert "first" == (await source()).value
    path.write_text("the second")
    assert "the second" == (await source()).value


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe", b"x" * 70_000])
async def test_a_file_that_holds_no_secret_is_a_failed_fetch(tmp_path, content):
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(ValueError):  # noqa: PT011 - a UnicodeDecodeError is one, and its text may hold the secret
        await SecretFile(tmp_path / "key", lambda: 0.0)()


async def test_a_file_that_went_away_leaves_the_old_secret(tmp_path, heard):
    path = tmp_path / "key"
    path.write_text("first")
    keepers = CredentialRefreshers(lambda: 1000.0, lambda *told: heard.append(told))
    current = keepers.add("p", SecretFile(path, lambda: 1000.0))
    await keepers.start(10)
    path.unlink()
    (keeper,) = keepers._all
    await keeper.renew()

    assert "first" == current()
    assert [("p", None, None), ("p", "FileNotFoundError", None)] == heard
    await keepers.stop()
