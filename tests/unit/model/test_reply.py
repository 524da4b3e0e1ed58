"""A reply is completed by what the exchange knows, and keeps everything else."""

from dataclasses import fields

from edge_extproc.model.call import Call
from edge_extproc.model.reply import Choice, Reply
from edge_extproc.model.usage import Usage

CALL = Call("d", "chat", "m", stream=False, raw=b"{}")
GIVEN = Reply("d", "id-1", "model-1", (Choice(()),), Usage(1), 5, {"a": 1})


def test_a_complete_reply_only_gets_its_call() -> None:
    completed = GIVEN.completed("other", "other", 9, CALL)

    assert completed.call is CALL
    assert [getattr(GIVEN, field.name) for field in fields(Reply) if field.name != "call"] == [
        getattr(completed, field.name) for field in fields(Reply) if field.name != "call"
    ]


def test_what_a_reply_lacks_is_added() -> None:
    completed = Reply("d", None, "", ()).completed("id-2", "model-2", 9, CALL)

    assert ("id-2", "model-2", 9) == (completed.id, completed.model, completed.created)
