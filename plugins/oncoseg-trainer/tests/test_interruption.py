"""A stop signal: what ends at once, what is finished first, what is left, and what is said of a wait."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from oncoseg_trainer.distributed import interruption
from oncoseg_trainer.distributed.interruption import AbandonedError, deferred, stop_on_signals, waiting_for


def send(number=signal.SIGTERM, after=0.0):
    threading.Timer(after, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("number", interruption.STOP_SIGNALS)
def test_before_there_is_anything_to_save_a_signal_ends_a_read(tmp_path, number):
    os.mkfifo(tmp_path / "pipe")
    with stop_on_signals() as stop:
        send(number, after=0.1)
        with pytest.raises(KeyboardInterrupt):
            (tmp_path / "pipe").open()
        assert stop()


def test_deferred_a_first_signal_sets_the_flag_and_a_second_ends():
    with stop_on_signals() as stop, deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert not stop.is_repeated
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_repeated


def test_calls_within_share_the_flag_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in interruption.STOP_SIGNALS]
    with stop_on_signals() as outer, deferred():
        with stop_on_signals() as inner, deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert inner is outer
        assert outer()
    assert [signal.getsignal(number) for number in interruption.STOP_SIGNALS] == before
    with stop_on_signals() as fresh:
        assert not fresh()


def test_what_may_be_left_is_left_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "PATIENCE_SECONDS", 0.3)
    os.mkfifo(tmp_path / "pipe")
    with stop_on_signals() as stop, deferred(), waiting_for("step 1"):
        send(after=0.1)
        with pytest.raises(AbandonedError, match="^a case$"), waiting_for("a case", may_be_left=True):
            (tmp_path / "pipe").open()
        assert stop()
        time.sleep(0.8)  # outside of it nothing is left


STUCK = """
import ctypes, signal
from oncoseg_trainer.distributed import interruption
interruption.NOTICE_SECONDS, interruption.SECOND_SECONDS = 0.3, 0.3
with interruption.stop_on_signals(), interruption.deferred(), interruption.waiting_for("the other processes"):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in a collective the main thread hears of no signal
    print("waits", flush=True)
    ctypes.CDLL(None).sleep(600)
"""


def test_a_process_stuck_in_a_collective_says_what_it_waits_for_and_a_second_signal_ends_it():
    child = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "waits\n"
    child.send_signal(signal.SIGTERM)
    notice = child.stderr.readline()
    assert re.match(r"Asked to stop \d s ago: waiting for the other processes\. Ask again to end at once", notice)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert errors == "error: interrupted while waiting for the other processes\n"
    assert child.returncode == 1
