"""When is it off-peak, is there room, what is deleted."""

from datetime import datetime

import pytest

from oncoseg_node.audit.audit import Audit
from oncoseg_node.config.settings import KeepSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import State
from oncoseg_node.work.hours import is_off_peak
from oncoseg_node.work.retention import DAY, Watermark, clean


@pytest.mark.parametrize(
    ("hours", "at", "off_peak"),
    [
        (("19:00", "06:00"), "18:59", False),
        (("19:00", "06:00"), "19:00", True),
        (("19:00", "06:00"), "00:30", True),
        (("19:00", "06:00"), "06:00", False),
        (("01:00", "05:00"), "03:00", True),
        (("01:00", "05:00"), "12:00", False),
        (("08:00", "08:00"), "12:00", True),
    ],
)
def test_off_peak_hours_may_go_over_midnight(hours, at, off_peak):
    assert is_off_peak(hours, datetime.fromisoformat(f"2026-01-05T{at}")) is off_peak


def test_the_disk_is_looked_at_once_a_second(tmp_path):
    now, free = [0.0], [100]
    watermark = Watermark(tmp_path, 50, clock=lambda: now[0], free=lambda _: free[0])
    assert not watermark.is_full()
    free[0] = 49
    assert not watermark.is_full()
    now[0] = 1.0
    assert watermark.is_full()


def test_images_go_before_results_and_both_are_written_down(tmp_path):
    queue = Queue(tmp_path, clock=lambda: 0.0)
    added = queue.add_instance("1.2", "1.2.3", "1.2.3.4", "a" * 64, 3)
    added.path.write_bytes(b"abc")
    (job,) = queue.quiet_jobs(1, now=10.0)
    queue.refuse(job, "no rule")
    (job.folder / "out").mkdir()
    (dead := tmp_path / "dead-letter" / job.folder.name).mkdir(parents=True)
    audit, keep = Audit(tmp_path / "audit", b"salt"), KeepSettings(images_days=1, results_days=2)
    assert clean(tmp_path, keep, queue, audit, 0.5 * DAY) == 0
    assert clean(tmp_path, keep, queue, audit, 1.5 * DAY) == 1
    assert (list(job.images.iterdir()), job.out.exists()) == ([], True)
    assert clean(tmp_path, keep, queue, audit, 2.5 * DAY) == 1
    assert (job.folder.exists(), dead.exists()) == (False, False)
    assert queue.job(job.id).state is State.REFUSED
    assert clean(tmp_path, keep, queue, audit, 9 * DAY) == 0
