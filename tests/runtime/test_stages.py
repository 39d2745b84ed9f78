"""The pipeline machinery: order, batches, errors by name, no thread left behind."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from autopose.errors import BackendError, MediaError
from autopose.runtime.stages import TIMED, Stage, TimedSource, run_stages


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("autopose-")}


def test_order_holds_through_batches() -> None:
    seen: list[int] = []

    def batched(items: list[int]) -> list[int]:
        seen.append(len(items))
        time.sleep(0.002)
        return [2 * item for item in items]

    stages = [Stage("one", list), Stage("two", batched, batch=5), Stage("three", lambda items: [i + 1 for i in items])]
    assert list(run_stages(range(100), stages)) == [2 * i + 1 for i in range(100)]
    assert max(seen) > 1
    assert len(stages[1].seconds) == 100
    assert _threads() == set()


def test_timings_are_per_item() -> None:
    def slow(items: list[int]) -> list[int]:
        time.sleep(0.04)
        return items

    stage = Stage("slow", slow, batch=4)
    assert stage.timings() == {"total_s": 0, "p50_ms": 0, "p95_ms": 0}
    begun = time.perf_counter()
    assert list(run_stages(range(8), [stage])) == list(range(8))
    assert 0.04 * 2 <= stage.timings()["total_s"] < time.perf_counter() - begun
    stage = Stage("known", list)
    for milliseconds in (*range(1, 21), 99):
        stage.took(2 * milliseconds / 1000, items=2)
    assert stage.timings() == pytest.approx({"total_s": 0.618, "p50_ms": 11, "p95_ms": 20})
    stage.took(0.005 * 3 * TIMED, items=3 * TIMED)  # of long streams the latest are kept
    assert len(stage.seconds) == TIMED
    assert stage.timings() == pytest.approx({"total_s": 0.618 + 0.015 * TIMED, "p50_ms": 5, "p95_ms": 5})


def test_a_source_is_timed_without_what_is_done_with_its_items() -> None:
    clock = Stage("decode", list)
    for item in TimedSource(range(3), str, clock):
        assert isinstance(item, str)
        time.sleep(0.02)
    assert len(clock.seconds) == 3
    assert sum(clock.seconds) < 0.02


def test_stages_may_hold_back_and_flush() -> None:
    held: list[int] = []

    def late(items: list[int]) -> list[int]:
        held.extend(items)
        return [held.pop(0)] if len(held) > 3 else []

    assert list(run_stages(range(10), [Stage("late", late, flush=lambda: held)])) == list(range(10))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_error_stops_everything_and_names_its_stage(position: int) -> None:
    def fail(items: list[int]) -> list[int]:
        if items[0] == 7:
            raise ZeroDivisionError("by purpose")
        return items

    stages = [Stage(f"stage{i}", fail if i == position else list) for i in range(3)]
    with pytest.raises(BackendError, match=f"'stage{position}' failed: ZeroDivisionError: by purpose"):
        list(run_stages(iter(range(10**9)), stages))
    assert _threads() == set()


def test_errors_of_the_source_and_of_our_own_keep_their_kind() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise MediaError("cut off")

    with pytest.raises(MediaError, match="cut off") as caught:
        list(run_stages(broken(), [Stage("one", list)]))
    assert caught.value.__notes__ == ["in the stage 'decode'"]


def test_what_goes_wrong_first_is_raised() -> None:
    def fails_to_close() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            raise OSError("already gone")

    def fail(items: list[int]) -> list[int]:
        raise MediaError("the reason")

    with pytest.raises(MediaError, match="the reason"):
        list(run_stages(fails_to_close(), [Stage("one", fail)]))


def test_leaving_early_stops_the_threads_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    results = run_stages(endless(), [Stage("one", list), Stage("two", list)])
    assert next(results) == 0
    results.close()
    assert closed.wait(5)
    assert _threads() == set()


def test_queues_are_bounded() -> None:
    taken = 0

    def counted() -> Iterator[int]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield i

    results = run_stages(counted(), [Stage("one", list)], capacity=3)
    next(results)
    time.sleep(0.1)
    assert taken <= 9  # three in each of two queues, one on each of its ways there, and the one that is here
    results.close()


def test_the_end_of_the_program_ends_what_was_left_half_used() -> None:
    script = """
import time
from autopose.runtime.stages import Stage, run_stages

def endless():
    try:
        while True:
            time.sleep(0.001)
            yield 1
    finally:
        print("closed", flush=True)

results = run_stages(endless(), [Stage("one", list)])
next(results)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_ends_what_it_got_half_used() -> None:
    """Whatever its parent's threads, which it has none of, were doing: here one holds a queue's lock."""
    script = """
import os, signal, sys, threading, time
from autopose.runtime import stages

queues = []

class Queue(stages.Channel[stages.T]):
    def __init__(self, capacity):
        super().__init__(capacity)
        queues.append(self)

def hold():
    with queues[0]._changed:
        held.set()
        done.wait()

stages.Channel, held, done = Queue, threading.Event(), threading.Event()
results = stages.run_stages(iter(range(9)), [stages.Stage("one", list)])
next(results)
threading.Thread(target=hold).start()
held.wait()
if os.fork() == 0:
    signal.alarm(10)
    results.close()
    os._exit(0)
status = os.wait()[1]
done.set()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_threads_that_the_system_refuses_leave_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "autopose-two":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        list(run_stages(range(100), [Stage("one", list), Stage("two", list)]))
    assert _threads() == set()
