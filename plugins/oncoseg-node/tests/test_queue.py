"""The queue: nothing lost, nothing twice, whatever is killed when."""

import hashlib
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from oncoseg_core import DataError, StorageError, UsageError
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import Earlier, State

STUDY, SERIES = "1.2.3.4.5", "1.2.3.4.5.6"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(tmp_path, clock):
    with_clock = Queue(tmp_path, clock=clock)
    yield with_clock
    with_clock.close()


def send(queue, sop, content=b"image", series=SERIES, *, rename=True):
    """What a receiver does with an instance."""
    content = content + str(sop).encode()
    added = queue.add_instance(STUDY, series, f"{series}.{sop}", hashlib.sha256(content).hexdigest(), len(content))
    if added.status == "new" and rename:
        temporary = added.path.with_name(f"{threading.get_ident()}.tmp")
        temporary.write_bytes(content)
        temporary.rename(added.path)
    return added


def killed(queue, clock):
    """The queue of the next process; the one before was not closed."""
    return Queue(queue._jobs.parent, clock=clock)


def complete(queue, clock, count=3, series=SERIES, **rule):
    for sop in range(count):
        send(queue, sop, series=series)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    assert queue.complete(job, "thorax", **rule)
    return queue.job(job.id)


def test_instances_of_a_series_are_one_job_without_patient_data_in_its_name(queue):
    one, two = send(queue, 1), send(queue, 2)
    assert one.job.id == two.job.id
    assert (one.status, two.status, two.instances) == ("new", "new", 2)
    assert SERIES not in str(one.path)
    assert one.path.parent == one.job.images
    assert send(queue, 1, series="1.9").job.id != one.job.id


def test_an_instance_that_is_here_is_recognised_and_another_of_its_uid_is_a_conflict(queue, clock):
    first = send(queue, 1)
    assert send(queue, 1).status == "same"
    other = send(queue, 1, b"other")
    assert other.status == "different"
    assert not other.path.exists()
    assert queue.flaws(first.job) == (1, 0)


def test_a_row_without_its_file_is_new_when_it_is_sent_again(queue):
    lost = send(queue, 1, rename=False)
    again = send(queue, 1)
    assert (again.status, again.path, again.instances) == ("new", lost.path, 1)


def test_a_row_without_its_file_is_no_part_of_the_job_when_it_begins(queue, clock):
    send(queue, 1)
    send(queue, 2, rename=False)
    queue = killed(queue, clock)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    assert queue.complete(job, "thorax")
    assert send(queue, 2).status == "new"
    assert queue.job(job.id).state is State.RECEIVED


def test_a_job_whose_every_file_was_lost_is_gone(queue, clock):
    lost = send(queue, 1, rename=False)
    queue = killed(queue, clock)
    clock.now += 60
    assert queue.quiet_jobs(30) == []
    assert queue.jobs() == []
    assert not lost.job.folder.exists()


def test_a_series_is_not_quiet_while_a_receiver_has_yet_to_name_its_file(queue, clock):
    added = send(queue, 1, rename=False)
    clock.now += 60
    assert queue.quiet_jobs(30) == []
    added.path.write_bytes(b"image1")
    assert len(queue.quiet_jobs(30)) == 1


def test_a_series_is_quiet_when_nothing_came_for_so_long(queue, clock):
    send(queue, 1)
    clock.now += 20
    send(queue, 2)
    clock.now += 20
    assert queue.quiet_jobs(30) == []
    clock.now += 11
    assert len(queue.quiet_jobs(30)) == 1


def test_an_image_that_comes_during_the_examination_keeps_the_series_open(queue, clock):
    send(queue, 1)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    send(queue, 2)
    assert not queue.complete(job, "thorax")
    assert not queue.refuse(job, "one slice")
    assert queue.job(job.id).state is State.RECEIVED


def test_the_same_series_again_is_never_a_second_job(queue, clock):
    job = complete(queue, clock)
    job = queue.take([State.COMPLETE], "worker")
    for state in (State.SEGMENTED, State.CHECKED, State.SENT, State.CONFIRMED):
        assert {send(queue, sop).status for sop in range(3)} == {"same"}
        job = queue.advance(job, state)
    queue.forget_images(job)
    assert {send(queue, sop).status for sop in range(3)} == {"same"}
    assert len(queue.jobs()) == 1


def test_a_late_image_opens_a_series_that_nobody_works_on_and_no_other(queue, clock):
    job = complete(queue, clock)
    assert send(queue, 7).status == "new"
    assert queue.job(job.id).state is State.RECEIVED
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    queue.complete(job, "thorax")
    queue.take([State.COMPLETE], "worker")
    late = send(queue, 8)
    assert (late.status, queue.late()) == ("late", 1)
    assert not late.path.exists()


def test_another_image_makes_a_second_job_where_that_is_set(tmp_path, clock):
    queue = Queue(tmp_path, again=True, clock=clock)
    first = complete(queue, clock)
    job = queue.take([State.COMPLETE], "worker")
    for state in (State.SEGMENTED, State.CHECKED, State.SENT, State.CONFIRMED):
        job = queue.advance(job, state)
    assert send(queue, 0).status == "same"
    added = send(queue, 9)
    assert (added.status, added.instances) == ("new", 4)
    assert added.job.id != first.id
    assert len(list(added.job.images.iterdir())) == 4
    assert first.earlier is None
    assert added.job.earlier == Earlier(case=first.folder.name, images=3)


def test_a_refused_series_is_examined_again_when_its_missing_image_comes(queue, clock):
    send(queue, 1)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    assert queue.refuse(job, "a slice is missing")
    assert send(queue, 1).status == "same"
    assert queue.job(job.id).state is State.REFUSED
    assert send(queue, 2).status == "new"
    assert queue.job(job.id).state is State.RECEIVED


@pytest.mark.parametrize(("steps", "status"), [(0, "new"), (1, "late")])
def test_a_job_that_failed_takes_another_image_only_where_nothing_was_made_of_it(queue, clock, steps, status):
    complete(queue, clock)
    job = queue.take([State.COMPLETE], "worker")
    if steps:
        job = queue.advance(job, State.SEGMENTED, keep=True)
    queue.fail(job, "no memory")
    assert send(queue, 1).status == "same"
    assert send(queue, 9).status == status


def test_a_refused_series_whose_images_are_gone_is_new_when_it_is_sent_again(queue, clock):
    send(queue, 1)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    queue.refuse(job, "no rule")
    queue.forget_images(queue.job(job.id))
    added = send(queue, 1)
    assert (added.status, added.instances) == ("new", 1)


def test_the_highest_priority_is_taken_first_then_the_oldest(queue, clock):
    jobs = [complete(queue, clock, 1, f"1.2.{n}", priority=priority) for n, priority in enumerate((0, 5, 5, 9))]
    taken = [queue.take([State.COMPLETE], "worker").id for _ in jobs]
    assert taken == [jobs[3].id, jobs[1].id, jobs[2].id, jobs[0].id]
    assert queue.take([State.COMPLETE], "worker") is None


def test_an_off_peak_job_waits_for_its_hours(queue, clock):
    job = complete(queue, clock, off_peak=True)
    assert queue.take([State.COMPLETE], "worker", off_peak=False) is None
    assert queue.take([State.COMPLETE], "worker", off_peak=True).id == job.id


def test_a_job_of_a_dead_owner_is_free_again_and_its_attempt_counts(queue, clock):
    complete(queue, clock)
    queue.take([State.COMPLETE], "worker")
    assert queue.take([State.COMPLETE], "other") is None
    assert queue.release("nobody") == 0
    assert queue.release("worker") == 1
    assert queue.take([State.COMPLETE], "other").attempts == 2


def test_a_job_that_was_put_off_waits(queue, clock):
    complete(queue, clock)
    job = queue.take([State.COMPLETE], "worker")
    queue.put_off(job, "the destination is away", clock.now + 10)
    assert queue.take([State.COMPLETE], "worker") is None
    clock.now += 10
    job = queue.take([State.COMPLETE], "worker")
    assert (job.attempts, job.reason) == (2, "the destination is away")
    job = queue.advance(job, State.SEGMENTED, keep=True)
    assert (job.attempts, job.reason) == (1, "")
    assert queue.take([State.SEGMENTED], "other") is None
    queue.advance(job, State.CHECKED)
    assert queue.take([State.CHECKED], "other").attempts == 1


def test_an_examination_that_ends_in_crashes_is_counted_and_put_off(queue, clock):
    send(queue, 1)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    assert queue.begin(job).attempts == 1
    queue.put_off(job, "crashed", clock.now + 10)
    assert queue.quiet_jobs(30) == []
    clock.now += 10
    (job,) = queue.quiet_jobs(30)
    assert queue.begin(job).attempts == 2


def test_a_series_of_too_many_images_takes_no_more_and_says_so(tmp_path, clock):
    queue = Queue(tmp_path, most_instances=2, clock=clock)
    for sop in range(2):
        send(queue, sop)
    added = send(queue, 2)
    assert (added.status, added.instances) == ("too many", 3)
    assert send(queue, 1).status == "same"
    assert queue.flaws(added.job) == (0, 1)
    assert queue.arrived == {"new": 2, "too many": 1, "same": 1}


def test_a_failed_job_begins_again_at_its_step(queue, clock):
    complete(queue, clock)
    job = queue.advance(queue.take([State.COMPLETE], "worker"), State.SEGMENTED, keep=True)
    failed = queue.fail(queue.advance(job, State.CHECKED), "the disk is full")
    assert (failed.state, failed.reason) == (State.FAILED, "the disk is full")
    queue.forget_images(failed)
    assert queue.retry(failed).state is State.CHECKED
    with pytest.raises(UsageError, match="is checked; only failed and refused"):
        queue.retry(queue.job(job.id))


@pytest.mark.parametrize("forget", ["forget_images", "forget_results"])
def test_an_image_that_arrives_while_old_files_are_deleted_stays(queue, clock, monkeypatch, forget):
    complete(queue, clock)
    failed = queue.fail(queue.take([State.COMPLETE], "worker"), "no memory")
    arrived, delete = [], shutil.rmtree

    def late(folder, **options):
        if Path(folder).exists():
            arrived.append(send(queue, 8))
        delete(folder, **options)

    monkeypatch.setattr("oncoseg_node.queue.queue.shutil.rmtree", late)
    getattr(queue, forget)(failed)
    assert {one.status for one in arrived} <= {"new", "same"}
    assert arrived[0].path.exists()
    assert queue.job(failed.id).state is State.RECEIVED
    assert not list(arrived[0].job.folder.parent.rglob("*.deleted"))


def test_a_failed_job_that_needs_its_images_is_not_begun_without_them(queue, clock):
    complete(queue, clock)
    failed = queue.fail(queue.take([State.COMPLETE], "worker"), "no memory")
    queue.forget_images(failed)
    with pytest.raises(UsageError, match="no longer kept; send the series again"):
        queue.retry(failed)


def test_a_job_that_another_moved_on_is_not_moved_twice(queue, clock):
    complete(queue, clock)
    job = queue.take([State.COMPLETE], "worker")
    queue.advance(job, State.SEGMENTED)
    with pytest.raises(UsageError, match="is segmented, not complete"):
        queue.advance(job, State.SEGMENTED)


def test_what_was_committed_is_there_for_the_next_process(tmp_path, clock):
    queue = Queue(tmp_path, clock=clock)
    job = complete(queue, clock)
    again = Queue(tmp_path, clock=clock)  # the first one was never closed, as after kill -9
    assert again.jobs() == [job]
    assert again.counts()[State.COMPLETE] == 1


def test_threads_that_send_at_once_lose_nothing(queue):
    def sender(number):
        statuses.extend([send(queue, sop, series=f"1.2.{number % 2}").status for sop in range(40)])

    statuses = []
    threads = [threading.Thread(target=sender, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 160
    assert len(queue.jobs()) == 2
    assert all(len(list(job.images.glob("*.dcm"))) == 40 for job in queue.jobs())


def test_what_a_crash_left_is_swept_when_a_node_starts(queue, tmp_path):
    job = send(queue, 1).job
    (tmp_path / "jobs" / "99-stray" / "images").mkdir(parents=True)
    (job.folder / "out" / ".read-back" / "x").mkdir(parents=True)
    for name in ("half.tmp", ".partial-1"):
        (job.images / name).write_bytes(b"")
    (tmp_path / ".partial-2").write_bytes(b"")
    assert queue.sweep() == 5
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [job.folder.name]
    assert len(list(job.images.iterdir())) == 1
    assert list((job.folder / "out").iterdir()) == []
    assert queue.sweep() == 0


def test_what_was_to_be_deleted_when_a_crash_came_is_deleted(queue, clock, monkeypatch):
    jobs = []
    for series in ("1.2.1", "1.2.2"):
        complete(queue, clock, series=series)
        jobs.append(queue.fail(queue.take([State.COMPLETE], "worker"), "no memory"))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        queue.forget_images(jobs[0])
        queue.forget_results(jobs[1])
    queue.sweep()
    assert list(jobs[0].images.iterdir()) == []
    assert not jobs[1].folder.exists()


def test_a_queue_of_a_later_version_is_refused(queue, tmp_path):
    queue._database._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="has format 99, this version of the node reads 1"):
        Queue(tmp_path)


def test_a_salt_that_was_cut_is_refused(tmp_path):
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(DataError, match="has 5 bytes, expected 32"):
        Queue(tmp_path)


def test_the_secrets_are_readable_by_their_owner_alone(queue, tmp_path):
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "queue.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("forgotten", ["images", "results"])
def test_a_series_that_is_sent_again_after_its_files_were_deleted_is_kept(queue, clock, forgotten):
    send(queue, 0)
    clock.now += 60
    (job,) = queue.quiet_jobs(30)
    assert queue.refuse(job, "slices are missing")
    queue.forget_images(queue.job(job.id))
    if forgotten == "results":
        queue.forget_results(queue.job(job.id))
    again = send(queue, 0)
    assert again.status == "new"
    following = killed(queue, clock)
    following.sweep()
    assert again.path.exists()
    clock.now += 60
    assert [one.id for one in following.quiet_jobs(30)] == [job.id]


@pytest.mark.parametrize(("state", "reopens"), [(State.SEGMENTED, True), (State.CHECKED, False)])
def test_a_failed_job_without_the_images_that_it_needs_is_not_retried_but_sent_again(queue, clock, state, reopens):
    job = queue.take([complete(queue, clock, 1).state], "worker")
    for after in (State.SEGMENTED, State.CHECKED)[: 1 if reopens else 2]:
        job = queue.advance(job, after, keep=True)
    job = queue.fail(job, "the disk is full")
    queue.forget_images(job)
    if reopens:
        with pytest.raises(UsageError, match="send the series again"):
            queue.retry(job)
    assert send(queue, 0).status == ("new" if reopens else "late")
    if not reopens:
        assert queue.retry(job).state is state


@pytest.mark.parametrize("lost", ["gone", "empty"])
def test_a_lost_queue_does_not_take_the_images_with_it(tmp_path, queue, clock, lost):
    stored = send(queue, 0).path
    queue.close()
    for path in tmp_path.glob("queue.sqlite*"):
        path.unlink()
    if lost == "empty":
        (tmp_path / "queue.sqlite").touch()
    with pytest.raises(StorageError, match=r"queue\.sqlite: the queue is missing or empty, and .*jobs holds jobs"):
        killed(queue, clock)
    assert stored.exists()


def test_an_older_queue_does_not_take_the_images_of_newer_jobs_with_it(tmp_path, queue, clock):
    send(queue, 0)
    copy = tmp_path / "copy.sqlite"
    with sqlite3.connect(tmp_path / "queue.sqlite") as source, sqlite3.connect(copy) as backup:
        source.backup(backup)
    newer = send(queue, 0, series="1.2.3.4.5.7").path
    queue.close()
    for path in tmp_path.glob("queue.sqlite*"):
        path.unlink()
    copy.rename(tmp_path / "queue.sqlite")
    with pytest.raises(StorageError, match=r"jobs: the queue does not know the jobs of 1 folder"):
        killed(queue, clock).sweep()
    assert newer.exists()


def test_the_queue_and_its_log_are_for_the_nodes_user_alone(tmp_path, queue):
    send(queue, 0)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("queue.sqlite*")} == {0}
