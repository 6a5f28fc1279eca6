"""Work on parts of a volume in several threads."""

import threading

import pytest

from oncoseg_core.system import threads


def test_results_come_in_order_from_several_threads(monkeypatch):
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    seen, meet = set(), threading.Barrier(3, timeout=20)

    def work(number):
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            meet.wait()
        return number * number

    assert threads.for_each(work, range(100), threads._LARGE) == [number * number for number in range(100)]
    assert len(seen) == 3


def test_a_slice_is_not_worth_a_thread():
    main = threading.get_ident()
    assert threads.for_each(lambda _: threading.get_ident(), range(4), 512 * 512) == [main] * 4


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "_processors", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        threads.for_each(lambda number: 1 // (number - 7), range(20), threads._LARGE)
