"""The audit: what was written stays, and what was changed shows."""

import hashlib
import json
import threading

import pytest

from oncoseg_core import DataError
from oncoseg_node.audit.audit import Audit
from oncoseg_node.audit.chain import files_of, read_head, verify

SALT = b"salt" * 8


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def audit(folder):
    audit = Audit(folder, SALT)
    for number in range(5):
        audit.write("received", job=number, images=60)
    return audit


def change(folder, edit):
    (path,) = files_of(folder)
    path.write_bytes(b"".join(line + b"\n" for line in edit(path.read_bytes().splitlines())))


def test_an_audit_as_it_was_written_is_intact(audit, folder):
    assert verify(folder)[:3] == (True, 5, "5 lines, none changed or missing")


def test_the_last_line_and_its_hash_are_told_to_be_kept_elsewhere(audit, folder):
    verified = verify(folder)
    (path,) = files_of(folder)
    assert (verified.last, verified.sha256) == (5, hashlib.sha256(path.read_bytes().splitlines()[-1]).hexdigest())


def test_an_empty_audit_is_intact(folder):
    Audit(folder, SALT)
    assert verify(folder).intact


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda lines: [*lines[:2], lines[2].replace(b": 60", b": 61"), *lines[3:]],
            "line 4, does not follow from line 3",
        ),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3, has the number 4, expected 3: lines are missing"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "line 3, has the number 2, expected 3"),
        (lambda lines: lines[1:], "line 1, has the number 2, expected 1"),
        (lambda lines: lines[:-1], "the head names line 5, and the last one here is 4: the end was cut off"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b": 60", b": 61")], "the end was cut off"),
        (lambda lines: [*lines[:2], b"noise", *lines[2:]], "line 4, comes after one that is no line of an audit"),
        (lambda _: [], "the head names line 5, and the last one here is 0"),
    ],
)
def test_what_was_changed_is_named(audit, folder, edit, message):
    change(folder, edit)
    verified = verify(folder)
    assert not verified.intact
    assert message in verified.message


def test_an_audit_without_its_head_is_refused(audit, folder):
    (folder / "head.json").unlink()
    assert "the audit's head cannot be read" in verify(folder).message
    with pytest.raises(DataError, match="the audit's head cannot be read"):
        Audit(folder, SALT).write("started")


def test_what_is_written_after_a_cut_end_does_not_hide_it(audit, folder):
    change(folder, lambda lines: lines[:-1])
    audit.write("received", job=9)
    assert not verify(folder).intact


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_line_that_a_crash_cut_off_is_closed_by_the_next_one(audit, folder, left):
    head = (folder / "head.json").read_bytes()
    audit.write("segmented", job=1)
    (path,) = files_of(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-1][:left])
    (folder / "head.json").write_bytes(head)  # which was not moved on either
    assert verify(folder).intact
    assert "a crash cut off the last line" in verify(folder).message
    audit.write("segmented", job=1)
    assert verify(folder).intact
    events = [json.loads(line)["event"] for line in path.read_bytes().splitlines()[-2:]]
    assert events == ["repaired", "segmented"]


def test_a_crash_within_the_repair_is_repaired_too(audit, folder):
    (path,) = files_of(folder)
    with path.open("ab") as stream:
        stream.write(b'{"n": 6, "at"\n{"n": 6, "event": "repa')
    audit.write("segmented", job=1)
    assert verify(folder).intact


def test_a_line_whose_end_alone_was_cut_off_counts(audit, folder):
    (path,) = files_of(folder)
    path.write_bytes(path.read_bytes()[:-1])
    audit.write("segmented", job=1)
    assert verify(folder)[:3] == (True, 6, "6 lines, none changed or missing")


def test_lines_behind_the_head_are_of_a_killed_process(audit, folder):
    before = (folder / "head.json").read_bytes()
    audit.write("segmented", job=1)
    (folder / "head.json").write_bytes(before)
    assert verify(folder).intact
    audit.write("segmented", job=1)
    assert verify(folder)[:3] == (True, 7, "7 lines, none changed or missing")


def test_no_identifier_of_a_patient_is_in_it(folder):
    uid = "1.2.840.113619.2.55.3"
    Audit(folder, SALT).write("failed", series_uid=uid, reason=f"cannot store {uid} there", objects=[{"sop": uid}])
    (path,) = files_of(folder)
    entry = json.loads(path.read_bytes())
    assert uid not in path.read_text()
    assert entry["series"] in entry["reason"]
    assert len(entry["series"]) == 16


def test_files_are_bounded_and_the_oldest_goes(folder):
    audit = Audit(folder, SALT, file_bytes=500, most_files=3)
    for number in range(30):
        audit.write("received", job=number)
    assert len(files_of(folder)) == 3
    verified = verify(folder)
    assert verified.intact
    assert verified.lines == read_head(folder).n - read_head(folder).gone_n < 30
    files_of(folder)[0].unlink()
    assert not verify(folder).intact


def test_a_crash_before_the_oldest_file_is_deleted_leaves_it_intact(folder, monkeypatch):
    audit = Audit(folder, SALT, file_bytes=500, most_files=2)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    for number in range(9):
        audit.write("received", job=number)
    assert len(files_of(folder)) == 3
    assert verify(folder).intact


def test_threads_and_writers_that_share_it_keep_the_chain(folder):
    def write(audit):
        for number in range(10):
            audit.write("received", job=number)

    threads = [threading.Thread(target=write, args=(Audit(folder, SALT),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(folder)[:3] == (True, 40, "40 lines, none changed or missing")
