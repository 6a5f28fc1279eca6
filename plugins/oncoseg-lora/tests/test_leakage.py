"""Leakage: found by voxels and by declaration, refused when certain, and remembered by adapters."""

import json

import numpy as np
import pytest

from oncoseg_core import DataError, DatasetSpec, Geometry, Overlap, Target
from oncoseg_core.imaging import content_hash
from oncoseg_lora import (
    Leak,
    Scan,
    TrainedOn,
    declared_leaks,
    leak_rows,
    refuse_leaks,
    same_scans,
    seen_scans,
)

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def spec(name, *overlaps):
    return DatasetSpec(
        name=name, factory="x:X", summary="s", modalities=("ct",), targets=(Target(name="liver", labels={1}),),
        licence="l", url="u", citation="c", overlaps=overlaps,
    )  # fmt: skip


def test_the_same_voxels_have_one_hash_however_they_are_stored():
    voxels = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)
    plain = Geometry.from_parts((2, 3, 4))
    turned = Geometry.from_parts((2, 3, 4), direction=np.diag([-1.0, -1.0, 1.0]))
    one = content_hash(voxels, plain)
    assert one == content_hash(voxels.astype(np.float32), plain)
    assert one == content_hash(np.ascontiguousarray(voxels[..., ::-1, ::-1]), turned)
    assert one != content_hash(voxels, turned)
    assert one != content_hash(voxels + np.int16(1), plain)


def test_the_same_scan_under_two_names_is_found():
    trained = [Scan("msd-liver", "liver_28", A), Scan("msd-liver", "liver_1", B)]
    scored = [Scan("3d-ircadb", "patient1", A), Scan("3d-ircadb", "patient2", C)]
    assert same_scans(trained, scored) == [Leak("msd-liver/liver_28", "3d-ircadb/patient1", "the same voxels", True)]
    assert same_scans(trained[1:], scored) == []


def test_declared_overlaps_count_from_either_side_and_not_within_a_dataset():
    liver = spec("msd-liver", Overlap(dataset="lits", certain=True, how="same scans"))
    lits, other = spec("lits"), spec("other", Overlap(dataset="other", certain=True, how="duplicates inside"))
    expected = [Leak("msd-liver", "lits", "same scans", True)]
    assert declared_leaks([liver, other], [lits, other]) == expected
    assert declared_leaks([lits], [liver]) == [Leak("lits", "msd-liver", "same scans", True)]
    assert declared_leaks([liver], [other]) == []
    assert declared_leaks(["lits"], [liver, other]) == [Leak("lits", "msd-liver", "same scans", True)]


def test_certain_leaks_are_refused_unless_allowed_and_suspected_ones_are_not():
    certain = [Leak("a", f"b{n}", "same", True) for n in range(7)]
    suspected = [Leak("a", "c", "perhaps", False)]
    with pytest.raises(
        DataError, match=r"trained on: b0 is a \(same\); .*b4 .*; and 2 more.*set data\.allow_leakage: true"
    ):
        refuse_leaks(certain + suspected, allowed=False, setting="data.allow_leakage: true")
    refuse_leaks(certain, allowed=True, setting="")
    refuse_leaks(suspected, allowed=False, setting="")
    assert json.loads(json.dumps(leak_rows(suspected))) == [
        {"trained": "a", "scored": "c", "how": "perhaps", "certain": False}
    ]


def test_what_an_adapter_saw_is_remembered():
    seen = TrainedOn(("d",), frozenset({B, A}))
    assert seen.encode() == f"{A}\n{B}\n".encode()
    assert TrainedOn.decode(("d",), seen.encode()) == seen
    found = seen_scans(seen, [Scan("e", "x", A), Scan("e", "y", C)])
    assert [leak.scored for leak in found] == ["e/x"]
    with pytest.raises(DataError, match="no SHA-256"):
        TrainedOn.decode(("d",), b"liver_28\n")
