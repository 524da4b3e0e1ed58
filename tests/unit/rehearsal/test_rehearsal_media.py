"""Legacy completions, images, audio, moderations and rerank, asked by the official client where it has them."""

from __future__ import annotations

import base64
import io
import wave

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError

AUDIO = ("a.wav", b"RIFF" + bytes(96))


async def test_a_legacy_completion_is_answered_and_streamed(openai: AsyncOpenAI) -> None:
    whole = await openai.completions.create(model="rehearsal", prompt="hello there")
    stream = await openai.completions.create(
        model="rehearsal", prompt="hello there", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert "You asked: hello there" in whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage == chunks[-1].usage
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    short = await openai.completions.create(model="rehearsal", prompt="hello there", max_tokens=2)
    assert "length" == short.choices[0].finish_reason


@pytest.mark.parametrize("how", ["generations", "edits", "variations"])
async def test_a_picture_is_a_picture(how: str, http: httpx2.AsyncClient) -> None:
    """The client no longer has variations."""
    fields = {"model": "rehearsal", "n": 2, "prompt": "a door"}
    form = {"image": ("a.png", b"\x89PNG"), **{name: (None, str(value)) for name, value in fields.items()}}
    asked = {"json": fields} if how == "generations" else {"files": form}
    made = (await http.post(f"/v1/images/{how}", **asked)).json()  # type: ignore[arg-type]  # one of two bodies

    assert 2 == len(made["data"])
    assert base64.b64decode(made["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n\x1a\n")


async def test_the_client_gets_a_picture(openai: AsyncOpenAI) -> None:
    made = await openai.images.generate(model="rehearsal", prompt="a door")
    edited = await openai.images.edit(model="rehearsal", image=("a.png", b"\x89PNG"), prompt="a window")

    assert made.data == edited.data


async def test_speech_is_silence_that_can_be_played(openai: AsyncOpenAI) -> None:
    made = await openai.audio.speech.create(model="rehearsal", voice="alloy", input="Hello")
    with wave.open(io.BytesIO(made.content)) as sound:
        assert (8000, 800) == (sound.getframerate(), sound.getnframes())

    assert "audio/wav" == made.response.headers["content-type"]


async def test_a_transcription_says_what_was_sent(openai: AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    text = await openai.audio.transcriptions.create(model="rehearsal", file=AUDIO)
    form = {"file": AUDIO, "model": (None, "rehearsal")}
    translated = (await http.post("/v1/audio/translations", files=form)).json()
    plain = await openai.audio.transcriptions.create(model="rehearsal", file=AUDIO, response_format="text")

    assert "You sent 100 bytes of audio." == text.text == translated["text"] == str(plain).strip()


async def test_moderations_flag_nothing(openai: AsyncOpenAI) -> None:
    made = await openai.moderations.create(input=["a", "b"])

    assert [False, False] == [result.flagged for result in made.results]
    assert made.results[0].categories.hate is False


async def test_rerank_puts_common_words_first(http: httpx2.AsyncClient) -> None:
    asked = {
        "model": "rehearsal",
        "query": "red door",
        "documents": ["a blue door", "nothing", {"text": "the red door"}],
    }
    reply = await http.post("/v1/rerank", json={**asked, "top_n": 2})

    assert [2, 0] == [result["index"] for result in reply.json()["results"]]


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("/v1/images/generations", {"model": "m", "n": 11}, "invalid_value"),
        ("/v1/audio/speech", {"model": "m", "input": "x"}, "missing_required_parameter"),
        ("/v1/moderations", {"input": 1}, "invalid_type"),
        ("/v1/completions", {"model": "m", "prompt": "x", "other": 1}, "unknown_parameter"),
        ("/v1/rerank", {"model": "m"}, "missing_required_parameter"),
    ],
)
async def test_a_wrong_request_is_refused_as_a_provider_does(
    path: str, form: dict[str, object], code: str, http: httpx2.AsyncClient
) -> None:
    reply = await http.post(path, json=form)

    assert (400, code) == (reply.status_code, reply.json()["error"]["code"])


async def test_a_form_must_be_a_form_with_a_file(http: httpx2.AsyncClient, openai: AsyncOpenAI) -> None:
    no_form = await http.post("/v1/audio/transcriptions", json={"model": "m"})
    no_file = await http.post("/v1/audio/transcriptions", files={"model": (None, "m")})

    assert 415 == no_form.status_code
    assert "missing_required_parameter" == no_file.json()["error"]["code"]
    with pytest.raises(BadRequestError):
        await openai.images.edit(model="rehearsal", image=("a.png", b"x"), prompt="x", n=99)


async def test_the_faults_of_a_script_are_played_here_too(http: httpx2.AsyncClient) -> None:
    reply = await http.post("/v1/audio/speech", json={"model": "rehearsal-503", "input": "x", "voice": "alloy"})

    assert (503, "application/json") == (reply.status_code, reply.headers["content-type"])
