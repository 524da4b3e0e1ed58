"""Agent Router's external processor (Envoy AI Gateway, in Go), built from its Go module, in an Envoy of its own.

Envoy is configured as the processor's own tests configure it. A request has two ext_proc streams: one of the listener
(headers and bodies), and one of the cluster (request headers, with the provider's body in the reply). Envoy checks the
key and writes the access line, with the tokens that the processor reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_extproc.envoy_config.validate import envoy_path

from . import stand

MODULE = "github.com/envoyproxy/ai-gateway"
VERSION = "v1.0.0"
HOME = Path(__file__).parent / "peers" / "agent-router"
_TYPES = "type.googleapis.com/envoy.extensions"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NAMESPACE = "io.envoy.ai_gateway"
_BACKEND = "xds.upstream_host_metadata.filter_metadata['aigateway.envoy.io']['per_route_rule_backend_name']"
_BUFFER_BYTES = 52428800
_MODEL = "gpt-4o-mini"


def built() -> Path:
    """The program, compiled at the first call. Needs Go. Raises SystemExit if it cannot be built."""
    program = HOME / VERSION / "extproc"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise SystemExit("bench: agent-router needs Go")
    module = json.loads(_go("mod", "download", "-json", f"{MODULE}@{VERSION}", cwd=Path(__file__).parent))["Dir"]
    program.parent.mkdir(parents=True, exist_ok=True)
    _go("build", "-o", str(program), "./cmd/extproc", cwd=Path(module))
    return program


def _go(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["go", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: agent-router could not be built:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def running(provider: str, directory: Path) -> Iterator[tuple[str, Mapping[str, tuple[int, ...]]]]:
    """The URL, and the processes by role. `provider`: the base URL of a provider without path."""
    front, admin = stand.free_port(), stand.free_port()
    socket = directory / "agent-router.sock"
    settings = directory / "agent-router.yaml"
    settings.write_text(json.dumps(processor_config()))
    words = [str(built()), "-configPath", str(settings), "-extProcAddr", f"unix://{socket}"]
    words += ["-adminPort", str(admin), "-logLevel", "error", "-endpointPrefixes", "anthropic:/"]
    environment = {**os.environ, "DISABLE_PPROF": "1", "OTEL_SDK_DISABLED": "true"}
    bootstrap = directory / "agent-router-envoy.json"
    port = int(provider.rpartition(":")[2])
    bootstrap.write_text(json.dumps(envoy_config(front, port, socket, directory / "agent-router-access.log")))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(stand._process(words, directory / "agent-router.log", environment))
        stand._until_open(admin, server)
        words = [envoy_path(), "--config-path", str(bootstrap), "--log-level", "error"]
        words += ["--concurrency", "1", "--disable-hot-restart"]
        envoy = stack.enter_context(stand._process(words, directory / "agent-router-envoy.log"))
        stand._until_open(front, envoy)
        yield f"http://127.0.0.1:{front}", {"Envoy": (envoy.pid,), "agent": (server.pid,)}


def processor_config() -> Mapping[str, Any]:
    """One OpenAI provider, its key, and the cost of a request in tokens."""
    schema = {"name": "OpenAI", "prefix": "v1"}
    return {
        "version": "dev",  # of a program that was built without a release's version
        "globalLLMRequestCosts": [{"metadataKey": "used_token", "type": "TotalToken"}],
        "backends": [{"name": "provider", "schema": schema, "auth": {"apiKey": {"key": "x"}}}],
        "models": [{"Name": _MODEL, "OwnedBy": "bench"}],
    }


def envoy_config(front: int, provider: int, socket: Path, access_log: Path) -> Mapping[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "agent_router",
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"json_format": _ACCESS_LINE},
                },
            }
        ],
        "http_filters": [
            {
                "name": "envoy.filters.http.api_key_auth",
                "typed_config": {
                    "@type": f"{_TYPES}.filters.http.api_key_auth.v3.ApiKeyAuth",
                    "credentials": [{"key": stand.KEY, "client": "bench"}],
                    "key_sources": [{"header": "authorization"}],
                },
            },
            _processor("SEND", "BUFFERED", "SEND", "BUFFERED"),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {
                                "prefix": "/",
                                "headers": [{"name": "x-ai-eg-model", "string_match": {"exact": _MODEL}}],
                            },
                            "route": {"cluster": "provider", "timeout": "0s"},
                        },
                        # The route of a request is chosen again when the processor has read its model.
                        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
                    ],
                }
            ]
        },
    }
    listener = {
        "name": "agent_router",
        "address": stand._address(front),
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [_provider(provider), _server(socket)]}}


_ACCESS_LINE = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "model": "%REQ(X-AI-EG-MODEL)%",
    "used_token": f"%DYNAMIC_METADATA({_NAMESPACE}:used_token)%",
}


def _processor(request_headers: str, request_body: str, response_headers: str, response_body: str) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
            "allow_mode_override": True,
            "processing_mode": {
                "request_header_mode": request_headers,
                "request_body_mode": request_body,
                "response_header_mode": response_headers,
                "response_body_mode": response_body,
            },
            "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}, "timeout": "30s"},
            "message_timeout": "60s",
            "metadata_options": {"receiving_namespaces": {"untyped": [_NAMESPACE]}},
        },
    }


def _provider(port: int) -> Mapping[str, Any]:
    processor = _processor("SEND", "NONE", "SKIP", "NONE")
    processor["typed_config"]["request_attributes"] = [_BACKEND]
    length = {"key": "content-length", "value": f"%DYNAMIC_METADATA({_NAMESPACE}:content_length)%"}
    mutation = {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [{"append": {"append_action": "ADD_IF_ABSENT", "header": length}}]},
        },
    }
    codec = {
        "name": "envoy.filters.http.upstream_codec",
        "typed_config": {"@type": f"{_TYPES}.filters.http.upstream_codec.v3.UpstreamCodec"},
    }
    options = {
        "@type": f"type.googleapis.com/{_HTTP}",
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [processor, mutation, codec],
    }
    cluster = {**stand._cluster("provider", port), "typed_extension_protocol_options": {_HTTP: options}}
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    endpoint["metadata"] = {"filter_metadata": {"aigateway.envoy.io": {"per_route_rule_backend_name": "provider"}}}
    return cluster


def _server(socket: Path) -> Mapping[str, Any]:
    cluster = {**stand._cluster("processor", 0), "per_connection_buffer_limit_bytes": _BUFFER_BYTES}
    address = {"pipe": {"path": str(socket)}}
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return cluster
