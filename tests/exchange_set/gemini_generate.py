"""Google's generateContent: AI Studio and Vertex."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .base import (
    FERRY_ARGUMENTS,
    FERRY_SCHEMA,
    GIF,
    LEAFLET,
    LOAF,
    LOAF_SCHEMA,
    MP4,
    PDF,
    PIXEL,
    TIDE_ARGUMENTS,
    TIDE_RESULT,
    TIDE_SCHEMA,
    UNICODE,
    WAV,
    Exchange,
    Json,
    compact,
    parsed,
    pieces,
    pretty,
    sealed,
    sse,
    token,
)

HOST = "generativelanguage.googleapis.com"
MODEL = "gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: Json
    parts: Sequence[Json]
    finish: str = "STOP"
    thoughts: int = 0
    prompt: int = 14
    completion: int = 11
    cached: int = 0
    modalities: tuple[str, ...] = ("TEXT",)
    candidate: Json = field(default_factory=dict)
    model: str = MODEL
    tool_prompt: int = 0
    candidates: bool = True
    extra: Json = field(default_factory=dict)


def text(said: str, **more: Any) -> Json:
    return {"text": said, **more}


def user(*parts: Json) -> Json:
    return {"role": "user", "parts": list(parts)}


def model(*parts: Json) -> Json:
    return {"role": "model", "parts": list(parts)}


def call(name: str, arguments: str, **more: Any) -> Json:
    return {"functionCall": {"name": name, "args": parsed(arguments)}, **more}


def result(name: str, response: Json, **more: Any) -> Json:
    return {"functionResponse": {"name": name, "response": response, **more}}


def inline(mime: str, data: str) -> Json:
    return {"inlineData": {"mimeType": mime, "data": data}}


def openapi(schema: Json) -> Json:
    """The schema in the spelling of Google's own subset."""
    told = {k: v for k, v in schema.items() if k not in ("additionalProperties", "properties", "items")}
    told["type"] = str(schema["type"]).upper()
    if "properties" in schema:
        told["properties"] = {k: openapi(v) for k, v in schema["properties"].items()}
    if "items" in schema:
        told["items"] = openapi(schema["items"])
    return told


TIDES = {"name": "tide_table", "description": "Times of high water at a port", "parameters": openapi(TIDE_SCHEMA)}
FERRIES = {"name": "find_ferry", "description": "Ferries between ports", "parametersJsonSchema": FERRY_SCHEMA}
ASKS_TIDES = user(text("When is high water in Ostend on the first of March?"))
THOUGHT = "**Looking for tides**\n\nThe user asks for a time."


def cases() -> list[Case]:
    both = [
        user(text("Tides and ferries?")),
        model(call("tide_table", TIDE_ARGUMENTS), call("find_ferry", FERRY_ARGUMENTS)),
        user(result("tide_table", {"result": TIDE_RESULT}), result("find_ferry", {"departures": ["08:30", "17:45"]})),
    ]
    signed = [
        ASKS_TIDES,
        model(call("tide_table", TIDE_ARGUMENTS, thoughtSignature=sealed("kept"))),
        user(result("tide_table", {"output": TIDE_RESULT})),
    ]
    web = {"web": {"uri": "https://harbour.example/notices", "title": "harbour.example"}}
    segment = {"endIndex": 20, "text": "The harbour is open."}
    grounded = {
        "groundingMetadata": {
            "searchEntryPoint": {"renderedContent": "<div>harbour open</div>"},
            "groundingChunks": [web],
            "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}],
            "webSearchQueries": ["harbour open"],
        }
    }
    cited = {"citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 9, "uri": LEAFLET}]}}
    probable = {
        "avgLogprobs": -0.0117,
        "logprobsResult": {
            "topCandidates": [{"candidates": [{"token": "Yes", "tokenId": 7414, "logProbability": -0.0117}]}],
            "chosenCandidates": [{"token": "Yes", "tokenId": 7414, "logProbability": -0.0117}],
        },
    }
    rated = {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]}
    film = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://www.youtube.com/watch?v=harbour"}}
    clip = {**inline("video/mp4", MP4), "videoMetadata": {"startOffset": "0s", "endOffset": "1s", "fps": 1}}
    flash = {"model": "gemini-3-flash-preview"}
    return [
        Case("text", {"contents": [user(text("What is a lighthouse for?"))]}, [text("It marks the harbour at night.")]),
        Case(
            "system",
            {
                "systemInstruction": {"parts": [text("Answer in one sentence.")]},
                "contents": [user(text("What is a quay?"))],
                "generationConfig": {"temperature": 0.2, "topP": 0.9, "topK": 40},
            },
            [text("A quay is a wall where ships are loaded.")],
        ),
        Case(
            "multi-turn",
            {
                "contents": [
                    user(text("What is a jib?")),
                    model(text("A triangular sail ahead of the mast.")),
                    user(text("And a spinnaker?"), text("Keep it short.")),
                ],
                "generationConfig": {"maxOutputTokens": 64, "candidateCount": 1},
            },
            [text("A large sail for running before the wind.")],
        ),
        Case(
            "tools",
            {"contents": [ASKS_TIDES], "tools": [{"functionDeclarations": [TIDES]}]},
            [call("tide_table", TIDE_ARGUMENTS)],
        ),
        Case(
            "tools-with-text",
            {"contents": [ASKS_TIDES], "tools": [{"functionDeclarations": [TIDES, FERRIES]}]},
            [text("I look it up."), call("tide_table", TIDE_ARGUMENTS)],
        ),
        Case(
            "parallel-tools",
            {"contents": both[:1], "tools": [{"functionDeclarations": [TIDES, FERRIES]}]},
            [call("tide_table", TIDE_ARGUMENTS), call("find_ferry", FERRY_ARGUMENTS)],
        ),
        Case(
            "forced-tool",
            {
                "contents": [ASKS_TIDES],
                "tools": [{"functionDeclarations": [TIDES, FERRIES]}],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["tide_table"]}},
            },
            [call("tide_table", TIDE_ARGUMENTS)],
        ),
        Case(
            "no-tool",
            {
                "contents": [ASKS_TIDES],
                "tools": [{"functionDeclarations": [TIDES]}],
                "toolConfig": {"functionCallingConfig": {"mode": "NONE"}},
            },
            [text("I cannot look it up.")],
        ),
        Case(
            "tool-results",
            {"contents": signed, "tools": [{"functionDeclarations": [TIDES]}]},
            [text("High water is at 04:12 and 16:37.")],
            **flash,
        ),
        Case(
            "parallel-tool-results",
            {"contents": both, "tools": [{"functionDeclarations": [TIDES, FERRIES]}]},
            [text("04:12, and a ferry at 08:30.")],
        ),
        Case(
            "signed-call",
            {"contents": [ASKS_TIDES], "tools": [{"functionDeclarations": [TIDES, FERRIES]}]},
            [
                call("tide_table", TIDE_ARGUMENTS, thoughtSignature=sealed("signed call")),
                call("find_ferry", FERRY_ARGUMENTS),
            ],
            thoughts=31,
            **flash,
        ),
        Case(
            "tool-without-arguments",
            {
                "contents": [user(text("Which ports?"))],
                "tools": [{"functionDeclarations": [{"name": "list_ports", "description": "All ports"}]}],
            },
            [call("list_ports", "{}")],
        ),
        Case(
            "vision-bytes",
            {"contents": [user(text("Which colours?"), inline("image/png", PIXEL), inline("image/gif", GIF))]},
            [text("Red and black.")],
            modalities=("TEXT", "IMAGE"),
            prompt=520,
        ),
        Case(
            "vision-url",
            {
                "contents": [
                    user(
                        text("What is this?"),
                        {"fileData": {"mimeType": "image/jpeg", "fileUri": f"https://{HOST}/v1beta/files/lighthouse"}},
                    )
                ],
                "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
            },
            [text("A lighthouse.")],
            modalities=("TEXT", "IMAGE"),
            prompt=78,
        ),
        Case(
            "document",
            {"contents": [user(inline("application/pdf", PDF), text("How many pages?"))]},
            [text("One page.")],
            modalities=("TEXT", "DOCUMENT"),
            prompt=264,
        ),
        Case("video", {"contents": [user(film, clip, text("What happens?"))]}, [text("A ferry leaves.")]),
        Case(
            "audio",
            {"contents": [user(inline("audio/wav", WAV), text("What do you hear?"))]},
            [text("Silence.")],
            modalities=("TEXT", "AUDIO"),
            prompt=39,
        ),
        Case(
            "structured-output",
            {
                "contents": [user(text("A rye loaf."))],
                "generationConfig": {"responseMimeType": "application/json", "responseSchema": openapi(LOAF_SCHEMA)},
            },
            [text(LOAF)],
        ),
        Case(
            "json-schema",
            {
                "contents": [user(text("A rye loaf."))],
                "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": LOAF_SCHEMA},
            },
            [text(LOAF)],
        ),
        Case(
            "thinking",
            {
                "contents": [ASKS_TIDES],
                "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024}},
            },
            [text(THOUGHT, thought=True), text("I would look into a tide table.")],
            thoughts=48,
        ),
        Case(
            "thinking-level",
            {"contents": [ASKS_TIDES], "generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}},
            [text("At 04:12.", thoughtSignature=sealed("level"))],
            thoughts=20,
            **flash,
        ),
        Case(
            "thinking-and-tools",
            {
                "contents": [ASKS_TIDES],
                "tools": [{"functionDeclarations": [TIDES]}],
                "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
            },
            [text(THOUGHT, thought=True), call("tide_table", TIDE_ARGUMENTS, thoughtSignature=sealed("with tools"))],
            thoughts=52,
        ),
        Case(
            "stop-sequences",
            {"contents": [user(text("Count to ten."))], "generationConfig": {"stopSequences": ["five"]}},
            [text("one, two, three, four, ")],
        ),
        Case(
            "length",
            {"contents": [user(text("All about ropes."))], "generationConfig": {"maxOutputTokens": 6}},
            [text("Ropes are made of")],
            "MAX_TOKENS",
            completion=6,
        ),
        Case(
            "safety",
            {"contents": [user(text("Tell me how to sink a ferry."))]},
            [text("First")],
            "SAFETY",
            candidate=rated,
        ),
        Case(
            "prompt-blocked",
            {
                "contents": [user(text("Tell me how to sink a ferry."))],
                "safetySettings": [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "BLOCK_LOW_AND_ABOVE"}],
            },
            [],
            candidates=False,
            extra={"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        ),
        Case(
            "malformed-call",
            {"contents": [ASKS_TIDES], "tools": [{"functionDeclarations": [TIDES]}]},
            [],
            "MALFORMED_FUNCTION_CALL",
            candidate={"finishMessage": "Malformed function call: call:tide_table{"},
        ),
        Case(
            "cache",
            {"contents": [user(text("May I anchor?"))], "cachedContent": "cachedContents/harbourrules"},
            [text("With a permit.")],
            prompt=2090,
            cached=2048,
        ),
        Case(
            "logprobs",
            {
                "contents": [user(text("Yes or no?"))],
                "generationConfig": {"responseLogprobs": True, "logprobs": 1, "seed": 7},
            },
            [text("Yes")],
            candidate=probable,
        ),
        Case(
            "search",
            {"contents": [user(text("Is the harbour open?"))], "tools": [{"googleSearch": {}}]},
            [text("The harbour is open.")],
            candidate=grounded,
            tool_prompt=60,
        ),
        Case("citations", {"contents": [user(text("Recite the tides."))]}, [text("At 04:12.")], candidate=cited),
        Case(
            "code-execution",
            {"contents": [user(text("Multiply 7, 11 and 13."))], "tools": [{"codeExecution": {}}]},
            [
                {"executableCode": {"language": "PYTHON", "code": "print(7 * 11 * 13)"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1001\n"}},
                text("1001"),
            ],
        ),
        Case(
            "picture",
            {
                "contents": [user(text("Draw a red dot."))],
                "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]},
            },
            [text("Here it is."), inline("image/png", PIXEL)],
            model="gemini-2.5-flash-image",
        ),
        Case("unicode", {"contents": [user(text(UNICODE))]}, [text(UNICODE)]),
        Case(
            "unicode-tools",
            {"contents": [user(text("港の潮は? 🌊"))], "tools": [{"functionDeclarations": [FERRIES]}]},
            [call("find_ferry", '{"from":"神戸 🚢","to":"Île d’Yeu\u2028"}')],
        ),
        Case(
            "snake-case",
            {
                "system_instruction": {"parts": [text("Be brief.")]},
                "contents": [{"parts": [text("A knot?"), {"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}],
                "generation_config": {"max_output_tokens": 64, "stop_sequences": ["."]},
            },
            [text("Bowline")],
        ),
    ]


# --- writing


def usage(case: Case, *, whole: bool) -> Json:
    told: Json = {"promptTokenCount": case.prompt}
    completion = case.completion if whole else 1
    if case.candidates:
        told["candidatesTokenCount"] = completion
    told["totalTokenCount"] = case.prompt + (completion if case.candidates else 0) + case.thoughts + case.tool_prompt
    if case.cached:
        told["cachedContentTokenCount"] = case.cached
    first = case.prompt if len(case.modalities) == 1 else 6
    counts = [first, case.prompt - first][: len(case.modalities)]
    rows = zip(case.modalities, counts, strict=True)
    told["promptTokensDetails"] = [{"modality": name, "tokenCount": count} for name, count in rows]
    if case.cached:
        told["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": case.cached}]
    if case.tool_prompt:
        told["toolUsePromptTokenCount"] = case.tool_prompt
        told["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": case.tool_prompt}]
    if case.thoughts:
        told["thoughtsTokenCount"] = case.thoughts
    return told


def _end(case: Case, seed: str) -> Json:
    return {"modelVersion": case.model, "responseId": token(seed, 22)}


def reply(case: Case, seed: str) -> Json:
    content = {"parts": list(case.parts), "role": "model"} if case.parts else {}
    candidate = {"content": content, "finishReason": case.finish, "index": 0, **case.candidate}
    found = {"candidates": [candidate]} if case.candidates else {}
    return {**found, **case.extra, "usageMetadata": usage(case, whole=True), **_end(case, seed)}


def _cut(parts: Sequence[Json]) -> Iterator[Json]:
    """Texts in pieces; the signature of a text comes with an empty one."""
    for part in parts:
        if "text" not in part:
            yield part
            continue
        more = {"thought": True} if part.get("thought") else {}
        yield from ({"text": each, **more} for each in pieces(part["text"], 12))
        if "thoughtSignature" in part:
            yield {"text": "", "thoughtSignature": part["thoughtSignature"]}


def chunks(case: Case, seed: str) -> Iterator[Json]:
    cut = list(_cut(case.parts))
    for number, part in enumerate(cut):
        last = number == len(cut) - 1
        end = {"finishReason": case.finish} if last else {}
        candidate = {
            "content": {"parts": [part], "role": "model"},
            **end,
            "index": 0,
            **(case.candidate if last else {}),
        }
        yield {"candidates": [candidate], "usageMetadata": usage(case, whole=last), **_end(case, seed)}
    if not cut:
        yield reply(case, seed)


def path(model_: str, verb: str) -> str:
    return f"POST /v1beta/models/{model_}:{verb}"


def studio() -> Iterator[Exchange]:
    found = {"server-timing": "gfet4t7; dur=812"}
    for case in cases():
        seed = f"gemini {case.name}"
        where = ("gemini", "generate_content", path(case.model, "generateContent"), HOST, case.model)
        body = pretty(reply(case, seed))
        yield Exchange(case.name, *where, case.request, body, response_headers=found)
        where = ("gemini", "stream_generate_content", path(case.model, "streamGenerateContent"), HOST, case.model)
        wire = sse(chunks(case, seed), line=b"\r\n")
        more: Any = {"stream_format": "sse", "query": "alt=sse", "response_headers": found}
        yield Exchange(case.name, *where, case.request, wire, **more)


def error(code: int, status: str, message: str, *details: Json) -> bytes:
    told: Json = {"code": code, "message": message, "status": status}
    return pretty({"error": {**told, **({"details": list(details)} if details else {})}})


def errors() -> Iterator[Exchange]:
    hello: Json = {"contents": [user(text("Hello"))]}
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": HOST},
    }
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
    rows: list[tuple[str, int, str, str, Json, tuple[Json, ...]]] = [
        (
            "error-value",
            400,
            "INVALID_ARGUMENT",
            "temperature must be in the range [0.0, 2.0].",
            {**hello, "generationConfig": {"temperature": 3}},
            (),
        ),
        ("error-key", 400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", hello, (info,)),
        (
            "error-permission",
            403,
            "PERMISSION_DENIED",
            "Generative Language API has not been used in this project.",
            hello,
            (),
        ),
        ("error-model", 404, "NOT_FOUND", "models/gemini-none is not found for API version v1beta.", hello, ()),
        (
            "error-rate-limit",
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota. Please retry in 17s.",
            hello,
            (wait,),
        ),
        ("error-server", 500, "INTERNAL", "An internal error has occurred.", hello, ()),
        ("error-overloaded", 503, "UNAVAILABLE", "The model is overloaded. Please try again later.", hello, ()),
    ]
    for name, code, status, message, asked, details in rows:
        model_ = "gemini-none" if name == "error-model" else MODEL
        where = ("gemini", "generate_content", path(model_, "generateContent"), HOST, model_)
        yield Exchange(name, *where, asked, error(code, status, message, *details), code)
    # A stream that was not asked for as SSE is an array, and so is its error.
    where = ("gemini", "stream_generate_content", path("gemini-none", "streamGenerateContent"), HOST, "gemini-none")
    body = b"[" + error(404, "NOT_FOUND", "models/gemini-none is not found.").rstrip() + b"\n]\n"
    yield Exchange("error-model", *where, hello, body, 404, "json-lines-or-array")
    where = ("gemini", "stream_generate_content", path(MODEL, "streamGenerateContent"), HOST, MODEL)
    body = error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
    yield Exchange("error-credentials", *where, hello, body, 401, "json-lines-or-array")


ON_VERTEX = (
    "text",
    "system",
    "tools",
    "parallel-tools",
    "tool-results",
    "vision-bytes",
    "structured-output",
    "thinking",
    "search",
    "length",
)


def vertex() -> Iterator[Exchange]:
    host = "us-central1-aiplatform.googleapis.com"
    base = "POST /v1beta1/projects/PROJECT/locations/us-central1/publishers/google/models"
    for case in cases():
        if case.name not in ON_VERTEX:
            continue
        seed = f"vertex {case.name}"
        where = ("vertex", "generate_content", f"{base}/{case.model}:generateContent", host, case.model)
        made: Json = {"createTime": "2026-01-01T00:00:00.000000Z"}
        body = reply(case, seed)
        body["usageMetadata"]["trafficType"] = "ON_DEMAND"
        yield Exchange(case.name, *where, {**case.request, "labels": {"team": "harbour"}}, pretty({**body, **made}))
        where = ("vertex", "stream_generate_content", f"{base}/{case.model}:streamGenerateContent", host, case.model)
        told = [{**chunk, **made} for chunk in chunks(case, seed)]
        wire = sse(told, line=b"\r\n")
        yield Exchange(case.name, *where, case.request, wire, stream_format="sse", query="alt=sse")
        if case.name in ("text", "tools", "thinking"):
            array = b"[" + b"\n,\n".join(pretty(chunk).rstrip() for chunk in told) + b"\n]\n"
            more: Any = {"stream_format": "json-lines-or-array"}
            yield Exchange(f"{case.name}-array", *where, case.request, array, **more)
    armored = Case(
        "armor",
        {"contents": [user(text("Hi"))], "modelArmorConfig": {"promptTemplateName": "strict"}},
        [],
        "MODEL_ARMOR",
        candidate={"finishMessage": "Blocked by Model Armor."},
    )
    where = ("vertex", "generate_content", f"{base}/{MODEL}:generateContent", host, MODEL)
    yield Exchange("armor", *where, armored.request, pretty(reply(armored, "vertex armor")))
    odd = Case("unexpected-call", {"contents": [ASKS_TIDES]}, [], "UNEXPECTED_TOOL_CALL")
    yield Exchange("unexpected-call", *where, odd.request, pretty(reply(odd, "vertex unexpected")))
    denied = error(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied.")
    yield Exchange("error-permission", *where, odd.request, denied, 403)


def count_tokens() -> Iterator[Exchange]:
    details = [{"modality": "TEXT", "tokenCount": 14}]
    told = {case.name: case.request for case in cases()}
    where = ("gemini", "count_tokens", path(MODEL, "countTokens"), HOST, MODEL)
    body = pretty({"totalTokens": 14, "promptTokensDetails": details})
    yield Exchange("text", *where, told["text"], body)
    asked = {"generateContentRequest": {"model": f"models/{MODEL}", **told["system"]}}
    yield Exchange("whole-request", *where, asked, body)
    asked = {"generateContentRequest": {"model": f"models/{MODEL}", **told["forced-tool"]}}
    yield Exchange("tools", *where, asked, body)
    base = "POST /v1beta1/projects/PROJECT/locations/us-central1/publishers/google/models"
    at_vertex = (
        "vertex",
        "count_tokens",
        f"{base}/{MODEL}:countTokens",
        "us-central1-aiplatform.googleapis.com",
        MODEL,
    )
    body = compact({"totalTokens": 14, "totalBillableCharacters": 41, "promptTokensDetails": details})
    yield Exchange("text", *at_vertex, told["multi-turn"], body)


def exchanges() -> Iterator[Exchange]:
    yield from studio()
    yield from errors()
    yield from vertex()
    yield from count_tokens()
