"""Reads the size of a large prompt off the event loop, if the bill needs it.

Most replies report the usage of their prompt, so the body is not read for the bill of most exchanges. Where the reply
does not, the end of the exchange waits for the reading (docs/adr/213).
"""

from __future__ import annotations

from dataclasses import replace

from .bill import reported_usage
from .phases import RequestFacts, RequestPhase, Sent, request_facts
from .ports import Gateway
from .prompt_size import read_prompt
from .response import ResponseFacts, ResponsePhase, response_facts


async def with_prompt(
    gateway: Gateway, request: RequestPhase | None, response: ResponsePhase | None
) -> RequestPhase | None:
    """The phase with the size of the prompt, if the body is large and the bill needs it."""
    if not isinstance(request, Sent) or not request.open.large or request.prompt is not None:
        return request
    if not needs_prompt(request_facts(request), response_facts(response)):
        return request
    call = request.open.parsed.call
    return replace(request, prompt=await gateway.large_body_runner.run_in_turn(read_prompt, call, gateway.wire_names))


def needs_prompt(request: RequestFacts, response: ResponseFacts) -> bool:
    """Whether the bill may need the size of the prompt. False is certain."""
    if request.call is None or response.entry is not None:
        return False
    if response.refused is not None and response.candidate is not None and response.body.tally is None:
        return False  # an error response of a provider costs nothing
    if response.body.operation is not None:
        return response.body.operation.usage is None
    usage = reported_usage(request.call, response.body)
    return usage is None or usage.prompt_unknown
