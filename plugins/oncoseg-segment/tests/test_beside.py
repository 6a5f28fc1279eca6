"""What is done ahead on a processor runs beside the prompts, and not in their way."""

import os
import sys
import threading

import pytest

from oncoseg_segment.engine.device_lock import NICENESS, DeviceLock, Priority, yield_to_others


def ahead(device, entered, leave):
    with device.priority(Priority.AHEAD), device:
        entered.set()
        assert leave.wait(10)


def test_a_prompt_does_not_wait_for_what_is_done_ahead_beside_it():
    device, entered, leave = DeviceLock(beside=True), threading.Event(), threading.Event()
    thread = threading.Thread(target=ahead, args=(device, entered, leave))
    thread.start()
    assert entered.wait(10)
    with device:
        pass
    assert device.waiting == 0
    leave.set()
    thread.join()


def test_one_slice_at_a_time_is_done_ahead():
    device, entered, leave = DeviceLock(beside=True), threading.Event(), threading.Event()
    first = threading.Thread(target=ahead, args=(device, entered, leave))
    first.start()
    assert entered.wait(10)
    second_entered = threading.Event()
    second = threading.Thread(target=ahead, args=(device, second_entered, leave))
    second.start()
    assert not second_entered.wait(0.2)
    leave.set()
    first.join()
    second.join()
    assert second_entered.is_set()


def test_a_device_that_is_not_shared_is_waited_for():
    device, entered, leave = DeviceLock(), threading.Event(), threading.Event()
    thread = threading.Thread(target=ahead, args=(device, entered, leave))
    thread.start()
    assert entered.wait(10)
    prompted = threading.Event()

    def prompt():
        with device:
            prompted.set()

    other = threading.Thread(target=prompt)
    other.start()
    assert not prompted.wait(0.2)
    leave.set()
    other.join()
    assert prompted.is_set()
    thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_one_thread_yields_and_the_others_do_not():
    found = []

    def worker():
        yield_to_others()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert found == [max(before, NICENESS)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
