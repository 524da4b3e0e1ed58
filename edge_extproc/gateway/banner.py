"""The text that `up` prints when everything serves: the addresses, the key, and two snippets to paste."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from ..config.schema import Config
from ..envoy_config import certificate_files
from .config_source import ConfigSource


def text(config: Config, origin: ConfigSource, processes: Mapping[str, int]) -> str:
    """Plain text without secrets. `processes`: the process id of each process, by name."""
    scheme = "https" if config.listen.tls is not None else "http"
    url = f"{scheme}://{_host(str(config.listen.address))}:{config.listen.port}"
    admin = f"http://{_host(str(config.admin.address))}:{config.admin.port}"
    alive = ", ".join(f"{name} (pid {pid})" for name, pid in processes.items())
    lines = [
        f"Gateway   {url}   (OpenAI: {url}/v1, Anthropic: {url})",
        f"Admin     {admin}   (/healthz, /readyz, /metrics)",
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
    model = _model(config)
    return "\n".join([*lines, f"Key       in {key_file}", "", *_snippets(url, key_file, model), "Stop with Ctrl-C."])


def _model(config: Config) -> str:
    """The first configured name that is no glob."""
    return next(name for name in config.models if not set(name) & set("*?"))


def _snippets(url: str, key_file: Path, model: str) -> list[str]:
    return [
        f"curl {url}/v1/chat/completions \\",
        f'  -H "authorization: Bearer $(cat {key_file})" -H "content-type: application/json" \\',
        f"""  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'""",
        "",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{url}/v1", api_key=open("{key_file}").read().strip())',
        f'reply = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}])',
        "print(reply.choices[0].message.content)",
        "",
    ]


def _host(address: str) -> str:
    """The host part of a URL that reaches this address from the same machine."""
    if ip_address(address).is_unspecified:
        address = "127.0.0.1"
    return f"[{address}]" if ":" in address else address


def show(config: Config, origin: ConfigSource, processes: Mapping[str, int]) -> None:
    print(text(config, origin, processes), flush=True)
