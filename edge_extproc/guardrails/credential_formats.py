"""The formats of credentials of services, as the services document them.

A format has fixed words, which a search for all of them together finds, and a pattern of what is around a word. Most
words are prefixes; some are in the middle of a value. A format without words of its own is recognized by the name of
its service before an equals sign or a colon.
"""

# ruff: noqa: E501 - each format is one row of a table

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from ..model.frozen_dataclass import frozen_dataclass

Check: TypeAlias = Literal["", "crc32", "jwt", "userinfo", "named"]

ALNUM: Final = "[A-Za-z0-9]"
URLSAFE: Final = "[A-Za-z0-9_-]"
_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@frozen_dataclass
class CredentialFormat:
    """`words` are as they are written; `before` and `after` are RE2 patterns of what is beside a word."""

    label: str
    service: str
    words: tuple[str, ...]
    after: str
    before: str = ""
    most_before: int = 0
    """Characters that `before` can have."""
    most: int = 512
    """The characters after the start of the word (of `before`) in which the value must end."""
    entropy: float = 2.5
    """The least bits for each character, by the frequency of the characters in the value. Placeholders have less."""
    check: Check = ""
    whole_word: bool = True
    """Whether no letter or digit may be before a word."""


def _format(
    label: str, service: str, words: str, after: str, *, entropy: float = 2.5, check: Check = ""
) -> CredentialFormat:
    return CredentialFormat(label, service, tuple(words.split()), after, entropy=entropy, check=check)


_PREFIXED: Final = (
    # Models
    _format("anthropic_key", "Anthropic", "sk-ant-", rf"[a-z]{{2,8}}[0-9]{{2}}-{URLSAFE}{{40,200}}"),
    _format("openai_key", "OpenAI", "sk-proj- sk-svcacct- sk-admin- sk-None-", rf"{URLSAFE}{{20,220}}"),
    _format("openrouter_key", "OpenRouter", "sk-or-", r"(?:v[0-9]-)?[0-9a-f]{40,64}"),
    _format("langfuse_key", "Langfuse", "sk-lf- pk-lf-", _UUID),
    _format("sk_key", "OpenAI, DeepSeek, Moonshot, Model Studio, LiteLLM", "sk-", rf"{ALNUM}{{20,64}}", entropy=3.0),
    _format("groq_key", "Groq", "gsk_", rf"{ALNUM}{{40,60}}"),
    _format("huggingface_token", "Hugging Face", "hf_ api_org_", rf"{ALNUM}{{30,40}}"),
    _format("xai_key", "xAI", "xai-", rf"{ALNUM}{{60,100}}"),
    _format("perplexity_key", "Perplexity", "pplx-", rf"{ALNUM}{{40,64}}"),
    _format("nvidia_key", "NVIDIA", "nvapi-", rf"{URLSAFE}{{40,80}}"),
    _format("replicate_token", "Replicate", "r8_", rf"{ALNUM}{{37,40}}"),
    _format("cerebras_key", "Cerebras", "csk-", r"[a-z0-9]{40,64}"),
    _format("fireworks_key", "Fireworks", "fw_", rf"{ALNUM}{{20,40}}", entropy=3.0),
    _format("together_key", "Together", "tgp_v1_", rf"{URLSAFE}{{40,64}}"),
    _format("langsmith_key", "LangSmith", "lsv2_pt_ lsv2_sk_", r"[0-9a-f]{32}_[0-9a-f]{10}"),
    _format("jina_key", "Jina", "jina_", rf"{URLSAFE}{{40,70}}"),
    _format("tavily_key", "Tavily", "tvly-", rf"(?:dev-|prod-)?{URLSAFE}{{20,48}}"),
    _format("vercel_key", "Vercel", "vck_ vcp_ vci_ vca_ vcr_", rf"{ALNUM}{{24,64}}"),
    _format("friendli_token", "Friendli", "flp_", rf"{ALNUM}{{40,64}}"),
    _format("voyage_key", "Voyage", "pa-", rf"{URLSAFE}{{43}}", entropy=3.5),
    _format("elevenlabs_key", "ElevenLabs", "sk_", r"[0-9a-f]{48}"),
    _format("pinecone_key", "Pinecone", "pcsk_", rf"{ALNUM}{{4,8}}_{ALNUM}{{40,70}}"),
    _format("e2b_key", "E2B", "e2b_", r"[0-9a-f]{40}"),
    _format("firecrawl_key", "Firecrawl", "fc-", r"[0-9a-f]{32}"),
    _format("browserbase_key", "Browserbase", "bb_live_ bb_test_", rf"{URLSAFE}{{20,40}}"),
    _format("modal_token", "Modal", "ak- as-", rf"{ALNUM}{{22}}", entropy=3.5),
    _format("wandb_v1_key", "Weights & Biases", "wandb_v1_", rf"{URLSAFE}{{40,120}}"),
    # Clouds
    _format("aws_access_key_id", "AWS", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}"),
    _format("bedrock_key", "Amazon Bedrock", "ABSK bedrock-api-key-", r"[A-Za-z0-9+/]{40,400}={0,2}"),
    _format("google_api_key", "Google", "AIza", rf"{URLSAFE}{{35}}"),
    _format("google_access_token", "Google", "ya29.", r"[A-Za-z0-9_.-]{30,400}"),
    _format("google_client_secret", "Google", "GOCSPX-", rf"{URLSAFE}{{28}}"),
    _format("google_refresh_token", "Google", "1//0", rf"{URLSAFE}{{40,120}}", entropy=3.5),
    _format("vertex_express_key", "Google Vertex AI", "AQ.", rf"{URLSAFE}{{40,80}}", entropy=3.5),
    _format("azure_storage_key", "Azure Storage", "AccountKey= SharedAccessKey=", r"[A-Za-z0-9+/]{43,86}={1,2}"),
    _format("azure_sas_signature", "Azure", "&sig= ?sig=", r"[A-Za-z0-9%]{43,80}", entropy=3.5),
    _format("alibaba_access_key", "Alibaba Cloud", "LTAI", rf"{ALNUM}{{12,26}}", entropy=3.0),
    _format("tencent_secret_id", "Tencent Cloud", "AKID", rf"{ALNUM}{{32}}", entropy=3.0),
    _format("yandex_key", "Yandex Cloud", "AQVN", rf"{URLSAFE}{{35,38}}"),
    _format("scaleway_access_key", "Scaleway", "SCW", r"[A-Z0-9]{17}", entropy=3.0),
    _format("digitalocean_token", "DigitalOcean", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),
    _format("heroku_key", "Heroku", "HRKU-", rf"{URLSAFE}{{36,64}}"),
    _format("netlify_token", "Netlify", "nfp_ nfc_ nfo_ nfu_", rf"{ALNUM}{{36,40}}"),
    _format("cloudflare_origin_key", "Cloudflare", "v1.0-", r"[0-9a-f]{24}-[0-9a-f]{146}"),
    _format("fly_token", "Fly.io", "fo1_ fm1r_ fm1a_ fm2_", r"[A-Za-z0-9_+/=-]{43,500}"),
    _format("render_key", "Render", "rnd_", rf"{ALNUM}{{28,40}}", entropy=3.0),
    _format("supabase_key", "Supabase", "sbp_ sb_secret_", rf"{URLSAFE}{{31,64}}"),
    _format("planetscale_token", "PlanetScale", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[A-Za-z0-9_=.-]{32,64}"),
    _format("neon_key", "Neon", "napi_", r"[a-z0-9]{50,70}"),
    _format("databricks_token", "Databricks", "dapi", r"[0-9a-f]{32}(?:-[0-9])?"),
    _format("openshift_token", "OpenShift", "sha256~", rf"{URLSAFE}{{43}}"),
    # Code and packages
    _format("github_token", "GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{ALNUM}{{36}}", check="crc32"),
    _format("github_fine_grained_token", "GitHub", "github_pat_", rf"{ALNUM}{{22}}_{ALNUM}{{59}}"),
    _format(
        "gitlab_token",
        "GitLab",
        "glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glimt- glagent- gloas- glffct-",
        r"[A-Za-z0-9_.-]{20,300}",
        entropy=3.0,
    ),
    _format("bitbucket_token", "Bitbucket", "ATBB ATCTT3", r"[A-Za-z0-9_=-]{32,230}"),
    _format("atlassian_token", "Atlassian", "ATATT3", r"[A-Za-z0-9_=-]{100,230}"),
    _format("npm_token", "npm", "npm_", rf"{ALNUM}{{36}}", check="crc32"),
    _format("pypi_token", "PyPI", "pypi-AgEI", rf"{URLSAFE}{{50,300}}"),
    _format("rubygems_key", "RubyGems", "rubygems_", r"[0-9a-f]{48}"),
    _format("docker_token", "Docker", "dckr_pat_ dckr_oat_", rf"{URLSAFE}{{27,60}}"),
    _format("nuget_key", "NuGet", "oy2", r"[a-z0-9]{43}", entropy=3.0),
    _format("crates_token", "crates.io", "cio", rf"{ALNUM}{{32}}", entropy=3.5),
    _format("clojars_token", "Clojars", "CLOJARS_", r"[0-9a-f]{60}"),
    _format("artifactory_key", "Artifactory", "AKCp", rf"{ALNUM}{{60,76}}"),
    _format("artifactory_reference_token", "Artifactory", "cmVmdGtu", rf"{ALNUM}{{56}}"),
    _format("postman_key", "Postman", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    _format("buildkite_token", "Buildkite", "bkua_ bkat_", r"[0-9a-f]{40}"),
    _format("circleci_token", "CircleCI", "CCIPAT_ CCIPRJ_", rf"{ALNUM}{{16,30}}_[0-9a-f]{{40}}"),
    _format("sonar_token", "SonarQube", "squ_ sqp_ sqa_", r"[0-9a-f]{40}"),
    _format("sourcegraph_token", "Sourcegraph", "sgp_", r"(?:[0-9a-f]{16}_|local_)?[0-9a-f]{40}"),
    _format("readme_key", "ReadMe", "rdme_", r"[a-z0-9]{70}"),
    _format("infracost_key", "Infracost", "ico-", rf"{ALNUM}{{32}}"),
    # Secrets and infrastructure
    _format("vault_token", "HashiCorp Vault", "hvs. hvb. hvr.", rf"{URLSAFE}{{24,300}}"),
    _format("doppler_token", "Doppler", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", r"[A-Za-z0-9_.-]{40,64}"),
    _format("1password_token", "1Password", "ops_eyJ", r"[A-Za-z0-9+/_-]{100,490}={0,2}"),
    _format("1password_secret_key", "1Password", "A3-", r"[A-Z0-9]{6}-[A-Z0-9]{6,11}(?:-[A-Z0-9]{5}){3,4}"),
    _format("pulumi_token", "Pulumi", "pul-", r"[0-9a-f]{40}"),
    _format("prefect_key", "Prefect", "pnu_ pnb_", rf"{ALNUM}{{36}}"),
    _format("age_key", "age", "AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    _format("tailscale_key", "Tailscale", "tskey-", rf"[a-z]{{3,8}}-{ALNUM}{{8,20}}-{ALNUM}{{20,64}}"),
    _format("scalingo_token", "Scalingo", "tk-us-", rf"{URLSAFE}{{48}}"),
    _format("confluent_secret", "Confluent", "cflt", r"[A-Za-z0-9+/]{60}"),
    # Monitoring
    _format("grafana_token", "Grafana", "glsa_", rf"{ALNUM}{{32}}_[0-9a-f]{{8}}"),
    _format("grafana_cloud_token", "Grafana Cloud", "glc_eyJ", r"[A-Za-z0-9+/]{30,400}={0,3}"),
    _format("new_relic_key", "New Relic", "NRAK- NRJS- NRII- NRIQ-", rf"{URLSAFE}{{19,40}}", entropy=3.0),
    _format("sentry_token", "Sentry", "sntrys_eyJ sntryu_", r"[A-Za-z0-9+/=_-]{60,400}"),
    _format("dynatrace_token", "Dynatrace", "dt0c01. dt0s01. dt0s16.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _format("posthog_key", "PostHog", "phx_ phs_", rf"{ALNUM}{{40,60}}"),
    _format("honeycomb_key", "Honeycomb", "hcaik_ hcbik_ hcxik_", r"[a-z0-9]{50,70}"),
    _format("launchdarkly_key", "LaunchDarkly", "sdk- mob- api-", _UUID),
    # Messages and e-mail
    _format("slack_token", "Slack", "xoxb- xoxp- xoxa- xoxe- xoxr- xoxo- xoxs- xoxc- xoxd-", r"[A-Za-z0-9%.-]{20,250}"),
    _format("slack_app_token", "Slack", "xapp-", r"[0-9]-[A-Z0-9]{8,16}-[0-9]{8,16}-[0-9a-f]{64}"),
    _format("slack_webhook", "Slack", "hooks.slack.com/", r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{30,100}"),
    _format("teams_webhook", "Microsoft Teams", ".webhook.office.com/webhookb2/", rf"{_UUID}@{_UUID}/[A-Za-z]{{8,20}}/[0-9a-f]{{32}}/{_UUID}"),
    _format("discord_webhook", "Discord", "discord.com/api/webhooks/ discordapp.com/api/webhooks/", rf"[0-9]{{17,20}}/{URLSAFE}{{60,72}}"),
    _format("zapier_webhook", "Zapier", "hooks.zapier.com/hooks/catch/", r"[0-9]{5,12}/[A-Za-z0-9]{5,20}"),
    _format("twilio_key", "Twilio", "SK", r"[0-9a-f]{32}"),
    _format("sendgrid_key", "SendGrid", "SG.", rf"{URLSAFE}{{20,24}}\.{URLSAFE}{{39,50}}"),
    _format("mailgun_key", "Mailgun", "key-", r"[0-9a-f]{32}"),
    _format("brevo_key", "Brevo", "xkeysib- xsmtpsib-", rf"[0-9a-f]{{64}}-{ALNUM}{{16}}"),
    _format("resend_key", "Resend", "re_", rf"{ALNUM}{{8}}_{ALNUM}{{20,28}}", entropy=3.5),
    # Payments and shops
    _format("stripe_key", "Stripe", "sk_live_ sk_test_ rk_live_ rk_test_", rf"{ALNUM}{{16,250}}"),
    _format("stripe_webhook_secret", "Stripe", "whsec_", r"[A-Za-z0-9+/]{32,64}={0,2}"),
    _format("square_token", "Square", "EAAA sq0atp- sq0csp- sq0idp-", rf"{URLSAFE}{{22,60}}", entropy=3.5),
    _format("braintree_token", "PayPal Braintree", "access_token$production$ access_token$sandbox$", r"[0-9a-z]{16}\$[0-9a-f]{32}"),
    _format("shopify_token", "Shopify", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-f]{32}"),
    _format("razorpay_key", "Razorpay", "rzp_live_ rzp_test_", rf"{ALNUM}{{14}}"),
    _format("flutterwave_key", "Flutterwave", "FLWSECK- FLWSECK_TEST-", r"[0-9a-z]{12,32}(?:-X)?"),
    _format("plaid_token", "Plaid", "access-production- access-development- access-sandbox-", _UUID),
    _format("duffel_token", "Duffel", "duffel_live_ duffel_test_", r"[A-Za-z0-9_=-]{43}"),
    _format("easypost_key", "EasyPost", "EZAK EZTK", rf"{ALNUM}{{54}}"),
    _format("shippo_token", "Shippo", "shippo_live_ shippo_test_", r"[0-9a-f]{40}"),
    # Work
    _format("linear_key", "Linear", "lin_api_ lin_oauth_", rf"{ALNUM}{{40,64}}"),
    _format("notion_token", "Notion", "ntn_ secret_", rf"{ALNUM}{{43,50}}", entropy=3.5),
    _format("figma_token", "Figma", "figd_ figu_", rf"{URLSAFE}{{38,50}}"),
    _format("hubspot_token", "HubSpot", "pat-na1- pat-na2- pat-eu1- pat-ap1-", _UUID),
    _format("typeform_token", "Typeform", "tfp_", r"[A-Za-z0-9_.=-]{50,70}"),
    _format("contentful_token", "Contentful", "CFPAT-", rf"{URLSAFE}{{43}}"),
    _format("dropbox_token", "Dropbox", "sl.u. sl.B", rf"{URLSAFE}{{130,500}}"),
    _format("mapbox_secret_token", "Mapbox", "sk.eyJ", rf"{URLSAFE}{{60,200}}\.{URLSAFE}{{20,40}}"),
    _format("facebook_token", "Facebook", "EAA", rf"{ALNUM}{{80,300}}", entropy=3.5),

    _format("adafruit_key", "Adafruit", "aio_", rf"{ALNUM}{{28}}", entropy=3.0),
    _format("frameio_token", "Frame.io", "fio-u-", rf"{URLSAFE}{{64}}"),
    # Of no single service
    CredentialFormat("jwt", "", ("eyJ",), rf"{URLSAFE}{{8,}}\.{URLSAFE}{{8,}}(?:\.{URLSAFE}*){{0,3}}", most=2400, check="jwt"),
    CredentialFormat(
        "private_key",
        "",
        ("-----BEGIN",),
        r"[ A-Z0-9]{0,32} PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END[ A-Z0-9]{0,32}-----)?",
        most=4096,
        entropy=0,
        whole_word=False,
    ),
    CredentialFormat(
        "private_key_header", "", ("-----BEGIN",), r"[ A-Z0-9]{0,32} PRIVATE KEY(?: BLOCK)?-----", most=80, entropy=0, whole_word=False
    ),
    CredentialFormat("url_password", "", ("://",), r"[^\s/@:\"'<>]{0,64}:([^\s/@\"'<>]{3,128})@", most=200, entropy=0, check="userinfo", whole_word=False),
)  # fmt: skip
_INNER: Final = (
    CredentialFormat("openai_legacy_key", "OpenAI", ("T3BlbkFJ",), rf"{ALNUM}{{20}}", rf"sk-{ALNUM}{{20}}", 23),
    CredentialFormat("mailchimp_key", "Mailchimp", ("-us",), r"[0-9]{1,2}", r"[0-9a-f]{32}", 32),
    CredentialFormat("telegram_token", "Telegram", (":AA",), rf"{URLSAFE}{{33}}", r"[0-9]{8,10}", 10),
    CredentialFormat("terraform_token", "HCP Terraform", (".atlasv1.",), rf"{URLSAFE}{{60,70}}", rf"{ALNUM}{{14}}", 14),
    CredentialFormat("entra_client_secret", "Microsoft Entra", ("Q~",), r"[A-Za-z0-9_~.-]{31,34}", r"[A-Za-z0-9_~.-]{3}[0-9]", 4),
)  # fmt: skip

# A quote may be escaped, as in JSON within JSON.
_ASSIGNED = r"[A-Za-z0-9_ .-]{0,32}\\{0,4}[\"'`]?[ \t]{0,4}(?:=>|:=|=|:)[ \t]{0,4}\\{0,4}[\"'`]?"


def _named(label: str, service: str, names: str, value: str, *, entropy: float = 3.0) -> CredentialFormat:
    return CredentialFormat(
        label, service, tuple(_spellings(names.split())), rf"{_ASSIGNED}({value})", entropy=entropy, whole_word=False
    )


def _spellings(names: list[str]) -> Iterator[str]:
    """As names of variables, of headers and of products are written."""
    for name in names:
        yield from dict.fromkeys((name, name.upper(), name.capitalize()))


_NAMED: Final = (
    _named("aws_secret_access_key", "AWS", "aws_secret secretaccesskey secret_access_key", r"[A-Za-z0-9/+]{40}", entropy=3.5),
    _named("cohere_key", "Cohere", "cohere co_api_key", rf"{ALNUM}{{40}}"),
    _named("mistral_key", "Mistral", "mistral", rf"{ALNUM}{{32}}"),
    _named("ai21_key", "AI21", "ai21", rf"{ALNUM}{{32}}"),
    _named("azure_key", "Azure OpenAI", "azure", r"(?:[0-9a-f]{32}|[A-Za-z0-9]{84})"),
    _named("zhipu_key", "Z.ai", "zhipu zai_ z_ai bigmodel glm_", rf"[0-9a-f]{{32}}\.{ALNUM}{{16}}"),
    _named("airtable_token", "Airtable", "airtable", rf"pat{ALNUM}{{14}}\.[0-9a-f]{{64}}"),
    _named("lob_key", "Lob", "lob_api lob-api", r"(?:live|test)_[0-9a-f]{35}"),
    _named("assemblyai_key", "AssemblyAI", "assemblyai", r"[0-9a-f]{32}"),
    _named("deepgram_key", "Deepgram", "deepgram", r"[0-9a-f]{40}"),
    _named("wandb_key", "Weights & Biases", "wandb", r"[0-9a-f]{40}"),
    _named("datadog_key", "Datadog", "datadog dd_api_key dd_app_key", r"[0-9a-f]{32,40}"),
    _named("cloudflare_token", "Cloudflare", "cloudflare cf_api", rf"{URLSAFE}{{37,40}}"),
    _named("okta_token", "Okta", "okta", rf"00{URLSAFE}{{40}}"),
    _named("algolia_key", "Algolia", "algolia", r"[0-9a-f]{32}"),
    _named("linode_token", "Linode", "linode", r"[0-9a-f]{64}"),
    _named("hetzner_token", "Hetzner", "hcloud hetzner", rf"{ALNUM}{{64}}"),
    _named("vultr_key", "Vultr", "vultr", r"[A-Z0-9]{36}"),
    _named("twitter_bearer_token", "X (Twitter)", "twitter", r"A{20}[A-Za-z0-9%]{60,100}"),
    _named("twitch_secret", "Twitch", "twitch", r"[a-z0-9]{30}"),
    _named("asana_token", "Asana", "asana", r"[0-9]/[0-9]{10,20}(?:/[0-9]{10,20})?:[0-9a-f]{32}"),
    _named("fastly_token", "Fastly", "fastly", rf"{URLSAFE}{{32}}"),
    _named("snyk_token", "Snyk", "snyk", _UUID),
    _named("codecov_token", "Codecov", "codecov", _UUID),
    _named("travis_token", "Travis CI", "travis", rf"{URLSAFE}{{22}}"),
    _named("twilio_auth_token", "Twilio", "twilio", r"[0-9a-f]{32}"),
    _named("postmark_token", "Postmark", "postmark", _UUID),
    _named("coinbase_key", "Coinbase", "coinbase", rf"{URLSAFE}{{64}}"),
    _named("discord_bot_token", "Discord", "discord", rf"[A-Za-z0-9]{{23,28}}\.{URLSAFE}{{6}}\.{URLSAFE}{{27,38}}"),
    _named("intercom_token", "Intercom", "intercom", r"[A-Za-z0-9_+/-]{60}"),
    _named("zendesk_token", "Zendesk", "zendesk", rf"{ALNUM}{{40}}"),
    _named("sumologic_key", "Sumo Logic", "sumologic sumo_access", rf"{ALNUM}{{64}}"),
    CredentialFormat(
        "bearer_token",
        "",
        tuple(_spellings(["bearer"])),
        r"(?:[ \t]{1,4}|%20|\+)([A-Za-z0-9._~+/=-]{16,400})",
        entropy=3.0,
        check="named",
    ),
    CredentialFormat(
        "named_secret",
        "",
        tuple(
            _spellings(
                ["password", "passwd", "passphrase", "api_key", "apikey", "api-key", "secret", "access_token", "access-token", "auth_token", "auth-token", "refresh_token", "private_key", "client_secret", "accesskey", "access_key", "token", "authorization"]
            )
        ),
        r"(?:[_-][A-Za-z0-9]{1,16}){0,2}\\{0,4}[\"'`]?[ \t]{0,4}(?:=>|:=|=|:)[ \t]{0,4}\\{0,4}[\"'`]?([A-Za-z0-9_.~+/!@#$%^*-][A-Za-z0-9_.~+/=!@#$%^*-]{11,199})",
        entropy=3.0,
        check="named",
        whole_word=False,
    ),
)  # fmt: skip

FORMATS: Final = (*_PREFIXED, *_INNER, *_NAMED)
"""In order of precedence: of two that find a value at one place, the first has it."""
NOT_BY_DEFAULT: Final = frozenset({"private_key_header"})
"""Formats that are searched for only if the configuration names them."""
