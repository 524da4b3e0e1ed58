"""The text that `up` prints when everything serves: the addresses, the key, and two snippets to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ..config.default_models import CHAT, EMBEDDING
from ..config.envoy import listener_url
from ..config.schema import Config
from ..envoy_config import certificate_files
from .config_source import ConfigSource

if TYPE_CHECKING:
    from ..pages.sessions import OneTimeLink


def text(config: Config, origin: ConfigSource, processes: Mapping[str, int], link: OneTimeLink | None = None) -> str:
    """Plain text. Its only secret is the link, which works once, for an hour, and only on this machine. `processes`:
    the process id of each process, by name."""
    url, *others = [listener_url(listener) for _, listener in config.listen.listeners()]
    admin = f"http://{_host(str(config.admin.address))}:{config.admin.port}"
    alive = ", ".join(f"{name} (pid {pid})" for name, pid in processes.items())
    lines = [
        f"Gateway   {url}   (OpenAI: {url}/v1, Anthropic: {url})",
        *(f"          {other}" for other in others),
        f"Admin     {admin}   (/healthz, /readyz, /metrics)",
        *([f"Pages     {admin}/ui/sign-in/{link.token}   (signs in once, within an hour)"] if link is not None else []),
        f"Healthy   {alive}",
        f"Providers {', '.join(config.providers)}",
    ]
    ca = (
        certificate_files.files(config.agent.state_dir).ca if config.listen.tls and config.listen.tls.generate else None
    )
    if ca is not None:
        lines.append(f"Trust     {ca}   (curl --cacert, SSL_CERT_FILE)")
    if origin.path is not None:
        return "\n".join([*lines, f"Keys      those of {origin.path}", "Stop with Ctrl-C."])
    key_file = origin.state_dir / "dev-key"
    snippets = _snippets(url, str(key_file), config)
    return "\n".join([*lines, f"Key       in {key_file}", "", *snippets, "Stop with Ctrl-C."])


def _snippets(url: str, key_file: str, config: Config) -> list[str]:
    """To paste. Examples for the models that there are: a chat, or embeddings if no model chats."""
    if CHAT in config.models:
        path, body = "chat/completions", f'"model": "{CHAT}", "messages": [{{"role": "user", "content": "Hello"}}]'
        call = f'chat.completions.create(model="{CHAT}", messages=[{{"role": "user", "content": "Hello"}}])'
        expression = "reply.choices[0].message.content"
    elif EMBEDDING in config.models:
        path, body = "embeddings", f'"model": "{EMBEDDING}", "input": "Hello"'
        call, expression = f'embeddings.create(model="{EMBEDDING}", input="Hello")', "reply.data[0].embedding[:3]"
    else:
        return []
    name = json.dumps(key_file, ensure_ascii=False)
    return [
        f"curl {url}/v1/{path} \\",
        f'  -H "authorization: Bearer $(cat {shlex.quote(key_file)})" -H "content-type: application/json" \\',
        f"  -d '{{{body}}}'",
        "",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{url}/v1", api_key=open({name}).read().strip())',
        f"reply = client.{call}",
        f"print({expression})",
        "",
    ]


def _host(address: str) -> str:
    """The host part of a URL that reaches this address from the same machine."""
    if ip_address(address).is_unspecified:
        address = "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def show(config: Config, origin: ConfigSource, processes: Mapping[str, int], link: OneTimeLink | None) -> None:
    print(text(config, origin, processes, link), flush=True)
