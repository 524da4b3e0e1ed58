import pytest

from edge_extproc.errors import ConfigError
from edge_extproc.providers.base import ProviderSettings, UpstreamCall, gen_ai_provider
from edge_extproc.providers.openai_compatible import HOSTS, row
from edge_extproc.registry import load, names


def asked(path, body=b"{}", **more):
    return UpstreamCall("chat", "a dialect", "a-model", False, path, body, **more)


def build(kind, base_url="https://host.example/v1", key="secret", **options):
    give = (lambda: key) if key is not None else None
    return load("providers", kind).build(ProviderSettings("p", base_url, give, options))


def test_every_file_of_the_room_is_a_kind():
    for name in names("providers"):
        plugin = load("providers", name)

        assert plugin.default_base_url is None or plugin.default_base_url.startswith("https://")
        assert name == build(name).kind


def test_an_unknown_kind_says_what_there_is():
    with pytest.raises(ConfigError, match="no providers plugin 'nope'; have anthropic"):
        load("providers", "nope")


def test_openai_gets_its_key_as_a_bearer():
    request = build("openai").request(asked("/chat/completions"))

    assert ("/v1/chat/completions", (("authorization", "Bearer secret"),)) == (request.path, request.headers)


def test_anthropic_gets_its_key_and_a_version():
    request = build("anthropic", base_url="https://host.example/v1/").request(asked("/messages"))

    assert "/v1/messages" == request.path
    assert (("x-api-key", "secret"),) == request.headers
    assert (("anthropic-version", "2023-06-01"),) == request.defaults


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_host_without_a_key_gets_none(kind):
    assert () == build(kind, key=None).request(asked("/x")).headers


def test_a_compatible_host_is_a_row():
    provider = build("openai_compatible", base_url=HOSTS["groq"].base_url, host="groq")

    assert "groq" == provider.price_list
    assert "/openai/v1/chat/completions" == provider.request(asked("/chat/completions")).path


def test_a_host_that_no_price_list_knows_is_unpriced():
    assert "" == build("openai_compatible").price_list


def test_an_unknown_row_says_what_there_is():
    with pytest.raises(ConfigError, match="'nope'; have avian, baseten"):
        row("nope")


def test_a_kind_names_its_wire_formats_by_short_words_and_speaks_them_all():
    dialects = names("dialects")
    for name in names("providers"):
        plugin = load("providers", name)

        assert set(plugin.apis.values()) <= set(dialects)
        assert build(name).formats("chat", "any-model")[0] in plugin.apis.values()


def test_an_unknown_compatible_host_is_only_believed_to_speak_chat():
    assert ("openai_chat",) == build("openai_compatible").formats("chat", "m")
    assert ("openai_chat", "openai_responses") == build("openai").formats("chat", "m")


@pytest.mark.parametrize(
    ("kind", "host", "name"),
    [
        ("openai", None, "openai"),
        ("anthropic", None, "anthropic"),
        ("azure", None, "azure.ai.openai"),
        ("bedrock", None, "aws.bedrock"),
        ("google", None, "gcp.gemini"),
        ("vertex", None, "gcp.vertex_ai"),
        ("openai_compatible", "mistral", "mistral_ai"),
        ("openai_compatible", "xai", "x_ai"),
        ("openai_compatible", "groq", "groq"),
        ("openai_compatible", None, "openai_compatible"),
    ],
)
def test_a_provider_has_the_name_of_the_conventions(kind: str, host: str | None, name: str) -> None:
    assert name == gen_ai_provider(kind, host)


@pytest.mark.parametrize(
    ("options", "address", "required"),
    [
        ({}, "https://aiplatform.googleapis.com/v1", ()),
        ({"region": "us-east5"}, "https://us-east5-aiplatform.googleapis.com/v1", ("region",)),
        ({"project": "p"}, "https://-aiplatform.googleapis.com/v1", ("region",)),
        ({"project": "p", "region": "global"}, "https://aiplatform.googleapis.com/v1", ()),
    ],
)
def test_a_kind_says_its_address_and_what_that_requires(
    options: dict[str, str], address: str, required: tuple[str, ...]
) -> None:
    vertex = load("providers", "vertex")

    assert (address, required) == (
        vertex.address(options),
        vertex.required(options, with_credential=False, own_address=True),
    )
    assert () == vertex.required(options, with_credential=False, own_address=False)
    assert {"project", "region"} <= {*vertex.required(options, with_credential=True, own_address=False)}
