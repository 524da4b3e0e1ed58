"""Pictures that a model made, on their way back to another model as history.

Only Gemini takes a picture within a turn of the model. Elsewhere the user shows it: it goes to the end of the next
message of the user, with a sentence that says whose it is. No message and no part changes its place, so that what is
named to the caller keeps its path.
"""

from __future__ import annotations

from dataclasses import replace

from ..model.call import Chat
from ..model.content import NO_EXTRAS, Image, Message, Part, Text

_SHOWN = "The picture that you made:"


def shown_by_user(chat: Chat) -> Chat:
    """The same chat with no picture in a message of the assistant."""
    if not any(_has_picture(message) for message in chat.messages):
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
