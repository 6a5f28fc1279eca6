"""Threads change nothing but the time. The images are generated."""

import threading

import numpy as np
import pytest

from oncoseg_modalities import threads
from oncoseg_modalities.ct import CTNormalizer
from oncoseg_modalities.mri import MRINormalizer
from oncoseg_modalities.srh import SRHNormalizer


@pytest.mark.parametrize("normalizer", [CTNormalizer(), MRINormalizer(), SRHNormalizer()])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_large_volume_gives_what_its_parts_give(normalizer, dtype, monkeypatch):
    voxels = np.random.default_rng(0).normal(200, 400, (2, 30, 64, 48)).astype(dtype)
    stats = normalizer.fit(voxels)
    alone = normalizer.apply(voxels, stats)
    monkeypatch.setattr(threads, "_LARGE", 0)
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    assert normalizer.fit(voxels) == stats
    np.testing.assert_array_equal(normalizer.apply(voxels, stats), alone)


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
