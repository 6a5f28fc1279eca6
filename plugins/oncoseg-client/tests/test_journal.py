"""What a killed window leaves behind is what was asked for in it."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oncoseg_client import Voxels, fold, journal
from oncoseg_client.queued import moves

IMAGE = {"path": "ct", "name": "ct"}
ops = st.lists(
    st.one_of(
        st.builds(lambda name: {"op": "step", "step": {"step": "prompt", "structure": name}}, st.sampled_from("abc")),
        st.just({"op": "undo"}),
        st.just({"op": "redo"}),
        st.builds(lambda back: {"op": "refused", "back": back}, st.integers(1, 3)),
    ),
    max_size=12,
)


def numbered(chosen):
    """With their numbers; a refusal is of one of the last requests."""
    done, count = [], 0
    for op in chosen:
        if op["op"] == "refused":
            if count >= op["back"]:
                done.append({"op": "refused", "n": count + 1 - op["back"]})
            continue
        count += 1
        done.append({**op, "n": count})
    return done


def simple(asked):
    """The steps, without thinking of how ``fold`` does it."""
    refused = {op["n"] for op in asked if op["op"] == "refused"}
    history, at = [], 0
    for op in asked:
        if op["op"] == "refused" or op["n"] in refused:
            continue
        if op["op"] == "step":
            history, at = [*history[:at], op["step"]], at + 1
        else:
            at = max(0, at - 1) if op["op"] == "undo" else min(len(history), at + 1)
    return history[:at], history[at:][::-1]


@given(ops)
def test_steps_are_those_of_a_history_with_a_place_in_it(chosen):
    asked = numbered(chosen)
    assert fold(asked) == simple(asked)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(ops, st.integers(0, 10_000))
def test_a_file_cut_at_any_byte_has_all_that_was_asked_for_up_to_there(tmp_path, chosen, cut):
    asked = numbered(chosen)
    lines = [json.dumps(op).encode() + b"\n" for op in [{"op": "image", **IMAGE}, *asked]]
    content = b"".join(lines)
    cut = min(cut, len(content))
    whole = content[:cut].count(b"\n")
    path = tmp_path / "one.jsonl"
    path.write_bytes(content[:cut])
    session = journal._read(path, content[:cut])
    steps, undone = simple(asked[: max(0, whole - 1)])
    if whole == 0 or not (steps or undone):
        assert session is None
    else:
        assert (session.steps, session.undone, session.image["path"]) == (steps, undone, "ct")


def test_a_clean_end_leaves_nothing_and_a_living_window_is_not_offered(tmp_path):
    one = journal.Journal(tmp_path, IMAGE)
    one.write({"op": "step", "n": 1, "step": {"step": "remove", "structure": "a"}})
    assert journal.unfinished(tmp_path) == []
    assert one.path.stat().st_mode & 0o777 == 0o600
    one.end()
    assert list(tmp_path.iterdir()) == []
    one.write({"op": "undo", "n": 2})  # too late, and no fault


def test_unsent_prompts_and_an_earlier_session_s_steps_are_there_again(tmp_path):
    one = journal.Journal(tmp_path, IMAGE)
    a, b, c = ({"step": "remove", "structure": name} for name in "abc")
    one.write({"op": "begin", "steps": [a, b], "undone": [c]})
    one.write({"op": "redo", "n": 1})
    one.write({"op": "unsent", "prompts": [["a", 3, {"kind": "point", "points": [[1, 2]], "positive": True}]]})
    one.write({"op": "image", "model": "litemedsam"})
    one.end(keep=True)
    (found,) = journal.unfinished(tmp_path)
    assert (found.steps, found.undone) == ([a, b, c], [])
    assert found.unsent[0][:2] == ["a", 3]
    assert found.image["model"] == "litemedsam"
    found.discard()
    assert journal.unfinished(tmp_path) == []


def test_nothing_is_lost_with_kill_9(tmp_path):
    code = """
        import pathlib, sys
        from oncoseg_client import Journal
        one = Journal(pathlib.Path(sys.argv[1]), {"path": "ct", "name": "ct"})
        n = 0
        while True:
            n += 1
            one.write({"op": "step", "n": n, "step": {"step": "prompt", "structure": "a", "n": n, "bits": "x" * 5000}})
            print(n, flush=True)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE)
    for _ in range(50):
        last = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split(b"\n")[:-1]
    process.wait()
    last = int(rest[-1]) if rest else last
    (found,) = journal.unfinished(tmp_path)
    assert [step["n"] for step in found.steps][:last] == list(range(1, last + 1))


def test_what_is_no_journal_or_too_old_is_no_offer(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\x00\xff no line of ours\n")
    one = journal.Journal(tmp_path, IMAGE)
    one.write({"op": "step", "n": 1, "step": {}})
    one.end(keep=True)
    os.utime(one.path, (0, 0))
    assert journal.unfinished(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_known_by_its_voxels_and_its_place():
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    one = journal.fingerprint(Voxels(voxels, np.eye(4), "ct"))
    assert one == journal.fingerprint(Voxels(voxels.copy(), np.eye(4), "mri"))
    assert one != journal.fingerprint(Voxels(voxels, np.diag([1, 1, 2, 1]), "ct"))
    assert one != journal.fingerprint(Voxels(voxels[:, ::-1], np.eye(4), "ct"))
    assert one != journal.fingerprint(Voxels(voxels.reshape(2, 4, 3), np.eye(4), "ct"))


def test_a_living_window_keeps_its_file_however_old_and_lines_of_others_are_no_fault(tmp_path):
    one = journal.Journal(tmp_path, IMAGE)
    os.utime(one.path, (0, 0))
    assert journal.unfinished(tmp_path) == []
    assert one.path.exists()
    one.end()
    content = json.dumps({"op": "image", **IMAGE}).encode() + b"\n3\n[]\n"
    assert journal._read(tmp_path, content) is None


def test_a_line_that_the_disk_has_no_room_for_takes_no_other_with_it(tmp_path):
    class Full:
        def __init__(self, file):
            self.file, self.closed = file, False
            self.seek, self.truncate = file.seek, file.truncate

        def write(self, line):
            return self.file.write(line[:7])

    one = journal.Journal(tmp_path, IMAGE)
    step = {"step": "remove", "structure": "a"}
    file, one._file = one._file, Full(one._file)
    with pytest.raises(OSError, match="No space"):
        one.write({"op": "step", "n": 1, "step": {"step": "remove", "structure": "lost"}})
    one._file = file
    one.write({"op": "step", "n": 2, "step": step})
    one.end(keep=True)
    (found,) = journal.unfinished(tmp_path)
    assert found.steps == [step]


@given(st.lists(st.sampled_from(["step", "undo", "redo"]), max_size=14))
def test_what_is_left_of_a_refused_step_is_the_history_without_it(kinds):
    before = [{"step": "remove", "structure": str(n)} for n in range(14)]
    later = [
        {"op": kind, "n": n, **({"step": {"step": "remove", "structure": f"later {n}"}} if kind == "step" else {})}
        for n, kind in enumerate(kinds, 2)
    ]
    wrong = {"op": "step", "n": 1, "step": {"step": "remove", "structure": "wrong"}}
    dropped = [{"op": "refused", "n": one["n"]} for one in (wrong, *moves(wrong, later))]
    steps, undone = fold([wrong, *later], before)
    expected = [[one for one in part if one is not wrong["step"]] for part in (steps, undone)]
    assert list(fold([wrong, *later, *dropped], before)) == expected
