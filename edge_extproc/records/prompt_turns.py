"""The earlier turns of conversations, and what of a prompt has changed since.

A record of the store has the last turns of one conversation: hashes of their segments, who answered, how many tokens
the prompt had, and when. Agents have several conversations under one name, so a record has several turns, and a prompt
is compared with the one that it continues. The record is bounded, and expires.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from ..model.frozen_dataclass import frozen_dataclass
from ..telemetry.background import BACKGROUND
from .base import RecordStore, RecordStoreDown, record_name
from .prompt_segments import DIGEST_BYTES, Prompt

_PURPOSE = "prompt-cache"
_KEY_PURPOSE = b"edge prompt cache v1\n"
MOST_TURNS = 8
# Records that wait to be written. More are dropped: their conversations are then explained from an older turn.
_MOST_WAITING = 1_000
_TRIES = 3
# Messages by which a prompt is recognised as a later turn of the same conversation.
_COMPARED_MESSAGES = 4


class AnsweredTurn(msgspec.Struct, frozen=True, array_like=True):
    """One answered request."""

    digests: bytes
    first_message: int
    provider: str
    model: str
    prompt_tokens: int
    at: float
    """Unix time, seconds."""


_read = msgspec.msgpack.Decoder(list[AnsweredTurn]).decode
_write = msgspec.msgpack.Encoder().encode


@frozen_dataclass
class EarlierTurns:
    """What is known of a conversation."""

    name: bytes
    """Of its record."""
    record: bytes | None
    turns: tuple[AnsweredTurn, ...]

    def continued(self, prompt: Prompt, provider: str, model: str) -> AnsweredTurn | None:
        """The turn that the prompt continues: at the same provider and model if there is one, and with the longest
        common beginning. None: there is none."""
        related = [turn for turn in self.turns if _is_related(turn, prompt)]
        if not related:
            return None
        return max(
            related,
            key=lambda turn: ((turn.provider, turn.model) == (provider, model), unchanged(turn, prompt), turn.at),
        )


def unchanged(turn: AnsweredTurn, prompt: Prompt) -> int:
    """The number of segments at the beginning that are the same."""
    ours, theirs = prompt.digests, turn.digests
    low, high = 0, min(len(ours), len(theirs)) // DIGEST_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        if ours[: middle * DIGEST_BYTES] == theirs[: middle * DIGEST_BYTES]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_related(turn: AnsweredTurn, prompt: Prompt) -> bool:
    """Whether the prompt is a later turn of the same conversation. The first message can be a system prompt that many
    conversations share, so it decides only if the turn had no other."""
    ours = _messages(prompt.digests, prompt.first_message)
    theirs = _messages(turn.digests, turn.first_message)
    if len(theirs) == 1 or len(ours) == 1:
        return ours[:1] == theirs[:1]
    return any(a == b for a, b in zip(ours[1:], theirs[1:], strict=False))


def _messages(digests: bytes, first: int) -> list[bytes]:
    """The first messages."""
    starts = range(first * DIGEST_BYTES, min(len(digests), (first + _COMPARED_MESSAGES) * DIGEST_BYTES), DIGEST_BYTES)
    return [digests[start : start + DIGEST_BYTES] for start in starts]


@frozen_dataclass
class PromptCacheSettings:
    seconds: float
    """How long a conversation is kept after its last turn."""
    always: bool
    """Explain each request, also one that does not ask for it."""


class PromptCaches:
    """The conversations of all workers that share the store."""

    def __init__(
        self, store: RecordStore, secret: bytes, clock: Callable[[], float], settings: PromptCacheSettings
    ) -> None:
        """`secret`: all workers have the same; the key of each tenant's hashes is made of it. `clock`: Unix time."""
        self._store = store
        self._secret = secret
        self._clock = clock
        self.settings = settings
        self._waiting: deque[tuple[EarlierTurns, AnsweredTurn]] = deque(maxlen=_MOST_WAITING)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def key_of(self, tenant: str) -> bytes:
        """The key of a tenant's hashes, so that equal prompts of two tenants have different ones."""
        return hmac.digest(self._secret, _KEY_PURPOSE + tenant.encode(errors="surrogatepass"), "sha256")

    async def earlier(self, tenant: str, *conversation: str, patience: float) -> EarlierTurns | None:
        """What is known of a conversation. None: the store cannot be used now, or takes more than `patience`
        seconds."""
        name = record_name(_PURPOSE, tenant, *conversation)
        try:
            (record,) = await asyncio.wait_for(self._store.get([name]), patience)
        except (RecordStoreDown, TimeoutError):
            return None
        return EarlierTurns(name, record, _turns(record))

    def add(self, conversation: EarlierTurns, prompt: Prompt, provider: str, model: str, prompt_tokens: int) -> None:
        """Queues an answered turn. It does not wait."""
        turn = AnsweredTurn(prompt.digests, prompt.first_message, provider, model, prompt_tokens, self._clock())
        self._waiting.append((conversation, turn))
        self._wake.set()

    def start(self) -> None:
        self._task = BACKGROUND.start("prompt_caches", self._run)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.drain()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.drain()

    async def drain(self) -> None:
        """Writes what waits. A turn that cannot be written is dropped."""
        while self._waiting:
            conversation, turn = self._waiting.popleft()
            with contextlib.suppress(RecordStoreDown):
                await self._add(conversation.name, conversation.record, turn)

    async def _add(self, name: bytes, record: bytes | None, turn: AnsweredTurn) -> None:
        """Another turn of the conversation may have been written meanwhile: then it is read again."""
        for _ in range(_TRIES):
            value, seconds = _write(_with(_turns(record), turn)), self.settings.seconds
            if record is None:
                record = await self._store.claim(name, value, seconds)
                if record is None:
                    return
            elif await self._store.replace(name, record, value, seconds):
                return
            else:
                (record,) = await self._store.get([name])


def _turns(record: bytes | None) -> tuple[AnsweredTurn, ...]:
    if record is None:
        return ()
    try:
        return tuple(_read(record))
    except msgspec.DecodeError:  # of another version
        return ()


def _with(turns: Sequence[AnsweredTurn], turn: AnsweredTurn) -> list[AnsweredTurn]:
    """The last turns, without those that the new one continues at the same provider."""
    others = [
        each
        for each in turns
        if (each.provider, each.model) != (turn.provider, turn.model) or not turn.digests.startswith(each.digests)
    ]
    return [*others, turn][-MOST_TURNS:]
