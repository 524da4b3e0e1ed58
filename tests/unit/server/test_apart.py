"""Large bodies are worked on in one thread; the event loop goes on, and what waits is bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edge_extproc.errors import BadRequest, PolicyUnavailable
from edge_extproc.server.work_thread import ThreadRunner


async def test_the_loop_goes_on_meanwhile() -> None:
    go = threading.Event()
    work = asyncio.create_task(ThreadRunner().run(go.wait, 20))
    await asyncio.sleep(0)  # it has begun
    go.set()  # by the loop, which therefore was free

    assert await work


async def test_one_at_a_time_in_their_order() -> None:
    apart, order = ThreadRunner(), list[int]()

    assert [0, 1, 2] == [await each for each in [asyncio.create_task(apart.run(int, str(n))) for n in range(3)]]
    await asyncio.gather(*(apart.run(order.append, n) for n in range(5)))
    assert [0, 1, 2, 3, 4] == order


async def test_what_is_raised_reaches_who_asked() -> None:
    def refuse() -> None:
        raise BadRequest("no")

    with pytest.raises(BadRequest, match="no"):
        await ThreadRunner().run(refuse)


async def test_too_many_are_told_to_come_again() -> None:
    apart, go = ThreadRunner(most_waiting=2), threading.Event()
    waiting = [asyncio.create_task(apart.run(go.wait, 20)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(PolicyUnavailable, match="busy"):
        await apart.run(int)
    go.set()
    await asyncio.gather(*waiting)

    assert 0 == await apart.run(int)


async def test_one_whose_caller_has_left_is_not_begun() -> None:
    apart, go, ran = ThreadRunner(), threading.Event(), list[int]()
    first = asyncio.create_task(apart.run(go.wait, 20))
    second = asyncio.create_task(apart.run(ran.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    go.set()
    await first
    await apart.run(int)

    assert [] == ran


async def test_the_ends_of_exchanges_are_never_refused_and_leave_the_thread_to_others_between_two() -> None:
    apart, go, order = ThreadRunner(most_waiting=1), threading.Event(), list[str]()

    def first() -> None:
        go.wait(20)
        order.append("end 0")

    ends = [asyncio.create_task(apart.run_in_turn(first))]
    ends += [asyncio.create_task(apart.run_in_turn(order.append, f"end {n}")) for n in range(1, 4)]
    await asyncio.sleep(0)
    other = asyncio.create_task(apart.run(order.append, "other"))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(other, *ends)

    assert ["end 0", "other", "end 1", "end 2", "end 3"] == order
