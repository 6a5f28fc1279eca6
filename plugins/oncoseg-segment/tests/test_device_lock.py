"""The device's lock: one at a time, prompts before propagations before what is done ahead, in the order of asking."""

import threading
import time
from contextlib import suppress

from oncoseg_segment.engine.device_lock import DeviceLock, Priority


def begun(lock, work, waiting):
    """A thread that waits for the lock; returns once it does."""
    thread = threading.Thread(target=work)
    thread.start()
    while lock.waiting < waiting:
        time.sleep(0.001)
    return thread


def test_prompts_go_first_and_equals_in_order():
    lock, order = DeviceLock(), []

    def work(name, priority):
        def run():
            with lock.priority(priority), lock:
                order.append(name)

        return run

    threads = []
    with lock:
        asked = [("ahead 1", Priority.AHEAD), ("follow", Priority.PROPAGATE), ("prompt 1", Priority.PROMPT),
                 ("ahead 2", Priority.AHEAD), ("prompt 2", Priority.PROMPT)]  # fmt: skip
        for number, (name, priority) in enumerate(asked, start=1):
            threads.append(begun(lock, work(name, priority), number))
        assert order == []
    [thread.join() for thread in threads]
    assert order == ["prompt 1", "prompt 2", "follow", "ahead 1", "ahead 2"]


def test_a_long_piece_of_work_lets_prompts_in_between():
    lock, order = DeviceLock(), []

    def prompt():
        with lock:
            order.append("prompt")

    with lock.priority(Priority.PROPAGATE):
        with lock:
            thread = begun(lock, prompt, 1)
            order.append("slice 1")
        with lock:
            order.append("slice 2")
    thread.join()
    assert order == ["slice 1", "prompt", "slice 2"]


def test_never_two_at_once():
    lock, inside, most = DeviceLock(), [], []

    def work(priority):
        with lock.priority(priority):
            for _ in range(100):
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

    threads = [threading.Thread(target=work, args=(Priority(number % 3),)) for number in range(9)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert set(most) == {1}
    assert len(most) == 900


def test_an_error_within_lets_the_next_one_in():
    lock = DeviceLock()
    for _ in range(2):
        with suppress(ZeroDivisionError), lock:
            1 / 0  # noqa: B018
    with lock:
        pass


def test_waiting_is_counted_for_the_thread_that_waits():
    lock, waited = DeviceLock(), []

    def work():
        with lock:
            pass
        waited.append(lock.waited_seconds)

    with lock:
        thread = begun(lock, work, 1)
        time.sleep(0.02)
    thread.join()
    assert waited[0] > 0.01
    assert lock.waited_seconds < waited[0]
