"""The event files, read back as TensorBoard reads them."""

import copy
import struct
import zlib

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from oncoseg_testing import check_tracker
from oncoseg_testing.checks.trackers import CONFIG, SUMMARY
from oncoseg_trackers.tensorboard_tracker import TensorBoardTracker


def png(width, height):
    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


def read(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def points(events, name):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]


def test_the_contract_is_kept(tmp_path):
    check_tracker(TensorBoardTracker, tmp_path)


def test_what_is_written_is_read_back(tmp_path, scored):
    tracker = TensorBoardTracker(run_directory=tmp_path)
    tracker.start(CONFIG, None)
    tracker.metrics(0, scored("a", 0.2))
    tracker.metrics(0, scored("b", 0.4))
    tracker.metrics(1, {"event": "train", "epoch": 0, "loss": 0.75, "lr": 1e-4})
    tracker.metrics(2, {"event": "train", "epoch": 0, "loss": float("nan"), "lr": 1e-4})
    tracker.metrics(2, scored("a", 0.6))
    tracker.metrics(2, scored("b", None))
    tracker.image("a-tumour-core", png(3, 2), "largest slice")
    tracker.finish(copy.deepcopy(SUMMARY))
    events = read(tmp_path)
    assert points(events, "train/loss")[0] == (1, 0.75)
    assert events.Scalars("train/loss")[1].value != events.Scalars("train/loss")[1].value  # not a number, and kept so
    assert points(events, "train/lr") == [(1, 1e-4), (2, 1e-4)]
    assert points(events, "score/dice/tumour core") == [(0, 0.3), (2, 0.6)]
    assert points(events, "score/dice") == [(0, 0.3), (2, 0.6)]
    (image,) = events.Images("pictures/a-tumour-core")
    assert (image.width, image.height, image.step) == (3, 2, 2)
    texts = set(events.Tags()["tensors"])
    assert {"configuration/text_summary", "summary/text_summary", "pictures/a-tumour-core/text_summary"} <= texts


def test_a_run_that_dies_keeps_what_its_checkpoint_knows_and_takes_the_rest_once(tmp_path):
    first = TensorBoardTracker(run_directory=tmp_path)
    first.start(CONFIG, None)
    for step in (1, 2):
        first.metrics(step, {"event": "train", "epoch": 0, "loss": float(step)})
    first.checkpoint(2, tmp_path / "checkpoint.pt")
    assert points(read(tmp_path), "train/loss") == [(1, 1.0), (2, 2.0)]  # before anything is closed
    first.metrics(3, {"event": "train", "epoch": 0, "loss": 30.0})
    first._writer.flush()  # the writer's own thread may have come to it
    second = TensorBoardTracker(run_directory=tmp_path)
    second.start(CONFIG, 2)
    second.metrics(3, {"event": "train", "epoch": 0, "loss": 3.0})
    second.finish(copy.deepcopy(SUMMARY))
    assert points(read(tmp_path), "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
