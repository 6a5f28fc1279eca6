"""Who died is known at once, and by name; strangers and goodbyes are no deaths."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch.distributed as dist

from oncoseg_core import RunError
from oncoseg_trainer.distributed import liveness as lifelines
from oncoseg_trainer.distributed.liveness import Lifelines, watched


@pytest.fixture
def lines(monkeypatch):
    """The lines of three processes, all in this one."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    store, made = dist.HashStore(), {}
    threads = [
        threading.Thread(target=lambda rank=rank: made.update({rank: Lifelines(store, rank, 3)})) for rank in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    yield [made[rank] for rank in range(3)]
    for each in made.values():
        each.leave()


def killed(line):
    """What the system does with the line of a process that is killed."""
    line.lost = "this one"  # the dead tell nothing
    for each in line._lines.values():
        each.shutdown(socket.SHUT_RDWR)


def test_all_hear_which_process_was_killed(lines):
    killed(lines[1])
    for each in (lines[0], lines[2]):
        assert each.wait_for_word().startswith(f"process 1 on {socket.gethostname()} was lost (its process ended")


def test_the_first_process_is_missed_too(lines):
    killed(lines[0])
    assert lines[2].wait_for_word().startswith("process 0 on 127.0.0.1 was lost")


def test_a_failing_process_says_why_to_all(lines):
    with pytest.raises(ValueError, match="no such slice"), watched(lines[2]):
        raise ValueError("no such slice")
    for each in (lines[0], lines[1]):
        assert each.wait_for_word() == f"process 2 on {socket.gethostname()} failed: no such slice"


def test_a_collective_that_fails_becomes_the_news_of_who_died(lines):
    killed(lines[1])
    with (
        pytest.raises(RunError, match="process 1 on .* was lost .*; the run ends, go on with --resume"),
        watched(lines[0]),
    ):
        raise RuntimeError("Connection closed by peer [10.0.0.2]:27144")


def test_an_error_of_its_own_stays_what_it_is(lines, monkeypatch):
    monkeypatch.setattr(lifelines, "WORD_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), watched(lines[0]):
        raise RuntimeError("shapes cannot be multiplied")


def test_a_goodbye_is_no_death(lines):
    for each in lines[1:]:
        with watched(each):
            pass
    time.sleep(0.1)
    assert lines[0].lost is None


def test_a_stranger_is_turned_away(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr(lifelines, "GREETING_SECONDS", 0.2)
    store, made = dist.HashStore(), {}
    first = threading.Thread(target=lambda: made.update({0: Lifelines(store, 0, 2)}))
    first.start()
    store.set("oncoseg/hello/1", "word")
    port = json.loads(store.get("oncoseg/answer/1/word"))["port"]
    for greeting in (b'{"rank": 1, "host": "x", "token": "guessed"}\n', b"GET / HTTP/1.1\r\n", b"[]\n", b""):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(greeting)
            assert stranger.recv(1) == b""
    made[1] = Lifelines(store, 1, 2)
    first.join(10)
    assert made[0].lost is None
    assert list(made[0]._lines) == [1]
    for each in made.values():
        each.leave()


def test_a_store_that_outlives_its_processes_does_not_mislead_the_next(monkeypatch):
    """torchrun's store stays over a restart: the address in it is then that of a process that is gone."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    store, meetings = dist.HashStore(), []
    for _ in range(3):
        made = {}
        second = threading.Thread(target=lambda made=made: made.update({1: Lifelines(store, 1, 2)}))
        second.start()  # asks before the new first process is there
        time.sleep(0.05)
        made[0] = Lifelines(store, 0, 2)
        second.join(10)
        assert made[0].meeting == made[1].meeting
        meetings.append(made[0].meeting)
        for each in made.values():
            each.leave()
    assert len(set(meetings)) == 3


def test_a_process_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(lifelines, "JOIN_SECONDS", 0.2)
    with pytest.raises(RunError, match="no sign of process 1, 2 in 0 s; did it start"):
        Lifelines(dist.HashStore(), 0, 3)


def test_the_system_asks_whether_the_other_machine_is_there(lines):
    (line,) = lines[1]._lines.values()
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
        asked = [
            line.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}")) for name in ("IDLE", "INTVL", "CNT")
        ]
        assert asked == [10, 5, 3]


STUCK = """
import sys, threading, time
import torch.distributed as dist
from oncoseg_trainer.distributed import liveness as lifelines
lifelines.GRACE_SECONDS = 0.2
store = dist.TCPStore("127.0.0.1", int(sys.argv[1]), 2, False)
lines = lifelines.Lifelines(store, 1, 2)
print("up", flush=True)
time.sleep(60)  # as in a collective that nothing can interrupt
"""


def test_a_process_stuck_in_a_collective_ends_with_the_reason(monkeypatch):
    store = dist.TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1"}
    child = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(store.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    first = Lifelines(store, 0, 2)
    assert child.stdout.readline() == "up\n"
    killed(first)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 1
    assert errors.startswith("error: process 0 on 127.0.0.1 was lost")
    first.leave()
