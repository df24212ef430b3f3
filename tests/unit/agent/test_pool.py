"""Blocking calls in threads: bounded in number, and none of them able to take the pool with it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from agent.hypervisor.pool import STUCK_FACTOR, WorkerPool


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("test", 1)
    yield pool
    pool.stop()


def count_threads(pool_name: str) -> int:
    """Threads of that pool alone: those of earlier tests may still be ending."""
    return sum(thread.name.startswith(f"{pool_name}-") for thread in threading.enumerate())


async def test_a_result_and_an_error_reach_the_waiter(pool: WorkerPool) -> None:
    assert await pool.run(lambda: 6 * 7, timeout_seconds=5) == 42
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0, timeout_seconds=5)


async def test_a_stuck_thread_is_replaced_and_leaves_when_it_returns(pool: WorkerPool) -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        await pool.run(release.wait, timeout_seconds=0.05)
    assert pool.stuck_count == 1
    assert await pool.run(lambda: "next", timeout_seconds=5) == "next"

    release.set()
    await _until(lambda: pool.stuck_count == 0)
    assert await pool.run(lambda: "after", timeout_seconds=5) == "after"


async def test_a_stuck_thread_is_found_also_when_its_waiter_gave_up(pool: WorkerPool) -> None:
    release = threading.Event()
    waiter = asyncio.create_task(pool.run(release.wait, timeout_seconds=0.1))
    await asyncio.sleep(0.02)
    waiter.cancel()
    assert await pool.run(lambda: "next", timeout_seconds=5) == "next"
    assert pool.stuck_count == 1
    release.set()


async def test_the_number_of_threads_is_bounded_however_many_get_stuck() -> None:
    pool, release = WorkerPool("stuck", 1), threading.Event()
    for _ in range(STUCK_FACTOR + 3):
        with pytest.raises(TimeoutError):
            await pool.run(release.wait, timeout_seconds=0.02)
    assert pool.stuck_count == STUCK_FACTOR
    assert count_threads("stuck") == STUCK_FACTOR + 1
    release.set()
    pool.stop()


async def test_threads_are_started_when_there_is_work_for_them() -> None:
    pool = WorkerPool("lazy", 4)
    for _ in range(5):
        await pool.run(lambda: None, timeout_seconds=5)
    assert count_threads("lazy") == 1
    await asyncio.gather(*(pool.run(lambda: time.sleep(0.05), timeout_seconds=5) for _ in range(9)))
    assert count_threads("lazy") == 4
    pool.stop()


async def test_what_waits_behind_a_long_call_can_run_out_of_time_without_running(pool: WorkerPool) -> None:
    ran = []
    long = asyncio.create_task(pool.run(lambda: time.sleep(0.2), timeout_seconds=5))
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await pool.run(lambda: ran.append("late"), timeout_seconds=0.05)
    await long
    assert await pool.run(lambda: "next", timeout_seconds=5) == "next"
    assert ran == []
    assert pool.stuck_count == 0


async def test_what_its_caller_gave_up_before_its_turn_is_not_begun(pool: WorkerPool) -> None:
    ran = []
    long = asyncio.create_task(pool.run(lambda: time.sleep(0.1), timeout_seconds=5))
    await asyncio.sleep(0.02)
    waiter = asyncio.create_task(pool.run(lambda: ran.append("late"), timeout_seconds=5))
    await asyncio.sleep(0.02)
    waiter.cancel()
    await long
    assert await pool.run(lambda: "next", timeout_seconds=5) == "next"
    assert ran == []


async def _until(condition: object) -> None:
    assert callable(condition)
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")
