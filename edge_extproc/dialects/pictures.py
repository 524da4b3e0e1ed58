"""Moves images that a model generated to user messages, for formats that do not accept them from the assistant.

Only Gemini accepts an image in a turn of the model. In other formats it is moved to the end of the next user message,
with a sentence that says that the model made it. All other messages and parts keep their positions, so their paths
stay correct.
"""

from __future__ import annotations

from dataclasses import replace

from ..model.call import Chat
from ..model.content import NO_EXTRAS, Image, Message, Part, Text, has_part

_SHOWN = "The picture that you made:"


def shown_by_user(chat: Chat) -> Chat:
    """The same chat without images in messages of the assistant."""
    if not has_part(chat.messages, Image) or not any(_has_picture(message) for message in chat.messages):
        return chat
    messages: list[Message] = []
    waiting: list[Part] = []
    for message in chat.messages:
        if _has_picture(message):
            for part in message.parts:
                if isinstance(part, Image):
                    waiting += [Text(_SHOWN), replace(part, cache=None, extras=NO_EXTRAS)]
            rest = tuple(part for part in message.parts if not isinstance(part, Image))
            messages.append(replace(message, parts=rest or (Text("[a picture]"),)))
        elif waiting and message.role == "user" and not message.extras:
            messages.append(replace(message, parts=(*message.parts, *waiting)))
            waiting = []
        else:
            messages.append(message)
    if waiting:
        messages.append(Message("user", tuple(waiting)))
    return replace(chat, messages=tuple(messages))


def _has_picture(message: Message) -> bool:
    return message.role == "assistant" and any(isinstance(part, Image) for part in message.parts)
