"""The stores of records: in memory, in a file of all workers, and in a real Valkey."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.errors import StartError
from edge_extproc.records.base import RecordStore, RecordStoreDown, record_name
from edge_extproc.records.file import FileRecords
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.redis import RedisRecords

ONE, TWO = record_name("one"), record_name("two")


async def gone(store: RecordStore, name: bytes) -> None:
    async with asyncio.timeout(10):
        found = await store.get([name])
        while found != [None]:
            await asyncio.sleep(0.005)
            found = await store.get([name])


async def test_the_first_value_of_a_record_stays(store: RecordStore) -> None:
    await store.add([ONE, TWO], b"acme", None)
    await store.add([TWO, record_name("three")], b"umbrella", 60.0)

    assert [b"acme", b"acme", b"umbrella", None] == await store.get(
        [ONE, TWO, record_name("three"), record_name("four")]
    )
    assert [] == await store.get([])


async def test_one_of_many_claims_a_record(store: RecordStore) -> None:
    values = [b"%d" % n for n in range(10)]
    found = await asyncio.gather(*(store.claim(ONE, value, 60.0) for value in values))

    winners = [value for value, existing in zip(values, found, strict=True) if existing is None]
    assert 1 == len(winners)
    assert {None, winners[0]} == set(found)


async def test_a_record_is_replaced_and_removed_only_by_its_value(store: RecordStore) -> None:
    await store.claim(ONE, b"begun", 60.0)

    assert not await store.replace(ONE, b"other", b"done", 60.0)
    assert await store.replace(ONE, b"begun", b"done\x00\xff", 60.0)
    await store.remove(ONE, b"begun")
    assert [b"done\x00\xff"] == await store.get([ONE])
    await store.remove(ONE, b"done\x00\xff")
    assert [None] == await store.get([ONE])
    assert not await store.replace(ONE, b"done", b"again", 60.0)


async def test_an_expired_record_is_no_record(store: RecordStore) -> None:
    await store.claim(ONE, b"a", 0.01)
    await store.add([TWO], b"a", 0.01)
    await gone(store, ONE)
    await gone(store, TWO)

    assert not await store.replace(ONE, b"a", b"b", 60.0)
    assert await store.claim(ONE, b"c", 60.0) is None
    await store.add([TWO], b"d", None)
    assert [b"c", b"d"] == await store.get([ONE, TWO])


async def test_more_names_than_one_statement_takes(store: RecordStore) -> None:
    names = [record_name(str(n)) for n in range(1200)]
    await store.add(names[::2], b"x", None)

    assert [b"x", None] * 600 == await store.get(names)


# --- the file


async def test_two_workers_share_the_file_and_it_outlives_them(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    first, second = FileRecords(path), FileRecords(path)
    await first.claim(ONE, b"a", 60.0)

    assert b"a" == await second.claim(ONE, b"b", 60.0)
    assert 0o600 == path.stat().st_mode & 0o777
    await first.close()
    await second.close()
    third = FileRecords(path)
    assert [b"a"] == await third.get([ONE])
    await third.close()


def _claim_all(path: Path, mine: bytes, queue: Any) -> None:
    async def claims() -> int:
        store = FileRecords(path)
        found = [await store.claim(record_name(str(n)), mine, 600.0) for n in range(100)]
        await store.close()
        return found.count(None)

    queue.put(asyncio.run(claims()))


def test_processes_that_claim_at_once_claim_each_record_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_claim_all, args=(tmp_path / "r.db", b"%d" % n, queue)) for n in range(3)]
    for worker in workers:
        worker.start()
    won = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)

    assert 100 == sum(won)


async def test_expired_records_leave_the_file(tmp_path: Path) -> None:
    clock = [1000.0]
    store = FileRecords(tmp_path / "records.db", lambda: clock[0])
    await store.add([record_name(str(n)) for n in range(40)], b"x", 10.0)
    clock[0] += 20.0
    await store.add([ONE], b"x", None)
    count = await store._run(lambda database: database.execute("SELECT count(*) FROM records").fetchone()[0])

    assert 1 == count
    await store.close()


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StartError, match=r"cannot use .*; set agent\.state_dir"):
        FileRecords(tmp_path / "file" / "records.db")


async def test_an_error_of_the_file_says_that_the_store_is_down(tmp_path: Path) -> None:
    store = FileRecords(tmp_path / "records.db")
    await store._run(lambda database: database.execute("DROP TABLE records"))
    steps: list[Callable[[], Any]] = [
        lambda: store.get([ONE]),
        lambda: store.add([ONE], b"", None),
        lambda: store.claim(ONE, b"", 1.0),
        lambda: store.replace(ONE, b"", b"", 1.0),
        lambda: store.remove(ONE, b""),
    ]
    for step in steps:
        with pytest.raises(RecordStoreDown, match="no such table"):
            await step()
    await store.close()


async def test_a_valkey_that_is_gone_is_down_with_the_reason(tmp_path: Path) -> None:
    store = RedisRecords(f"unix://{tmp_path}/nothing", 1.0)
    with pytest.raises(RecordStoreDown, match="there is no such socket"):
        await store.get([ONE])

    await store.close()


async def test_a_memory_that_is_switched_off_is_down() -> None:
    store = MemoryRecords()
    store.down = True
    with pytest.raises(RecordStoreDown):
        await store.get([ONE])


# --- names


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_other_parts_have_another_name(one: list[str], other: list[str]) -> None:
    assert (one == other) == (record_name(*one) == record_name(*other))


def test_processes_that_prepare_a_new_file_together_wait_for_each_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edge_extproc.records.file import FileRecords; "
        "sys.stdin.read(1); [FileRecords(Path(path)) for path in sys.argv[1:]]"
    )
    paths = [str(tmp_path / f"{number}.db") for number in range(40)]
    arguments = [sys.executable, "-c", program, *paths]
    processes = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "1234"]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]

    assert ([0] * 4, [""] * 4) == ([process.returncode for process in processes], errors)
