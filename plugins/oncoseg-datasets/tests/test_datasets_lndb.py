"""LNDb in miniature: generated mhd and raw files under the real names, findings of three readers, the real columns."""

import numpy as np
import pytest

from oncoseg_core import ConfigError, DataError

ROWS = (
    "LNDbID,RadID,FindingID,x,y,z,Nodule,Volume,Text\n"
    "1,1,1,0,0,0,1,100.5,5\n1,1,2,0,0,0,0,0,0\n1,2,1,0,0,0,1,90,5\n1,3,7,0,0,0,1,80,4\n2,1,1,0,0,0,1,50,3\n"
)
A, B = (slice(1, 4), slice(2, 6), slice(2, 6)), (slice(1, 4), slice(2, 6), slice(4, 8))


def mask(where, value, shape):
    voxels = np.zeros(shape, np.uint8)
    voxels[where] = value
    return voxels


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, mhd, image):
    """Scan 1 by three readers, scan 2 by one, scan 3 read without a finding, scan 4 of the test part."""
    root = tmp_path_factory.mktemp("lndb")
    for number, folder in ((1, 0), (2, 0), (3, 3), (4, 5)):
        mhd(root / f"data{folder}/LNDb-{number:04d}.mhd", image)
    first = mask(A, 1, image.shape)
    first[4, 9:11, 30:33] = 2  # no nodule, by the csv
    mhd(root / "masks/masks/LNDb-0001_rad1.mhd", first)
    mhd(root / "masks/masks/LNDb-0001_rad2.mhd", mask(B, 1, image.shape))
    mhd(root / "masks/masks/LNDb-0001_rad3.mhd", mask(B, 7, image.shape))
    mhd(root / "masks/masks/LNDb-0002_rad1.mhd", mask(A, 1, image.shape))
    mhd(root / "masks/masks/LNDb-0003_rad1.mhd", mask(A, 0, image.shape))
    (root / "trainset_csv").mkdir()
    (root / "trainset_csv/trainNodules.csv").write_text(ROWS)
    return root


def test_passes_the_kit(dataset, passes_the_kit):
    cases = passes_the_kit("lndb", dataset)
    assert [(case.case_id, case.split, bool(case.labels)) for case in cases] == [
        ("LNDb-0001", None, True),
        ("LNDb-0002", None, True),
        ("LNDb-0003", None, True),
        ("LNDb-0004", "test", False),
    ]


@pytest.mark.parametrize(
    ("readers", "expected"),
    [("union", lambda a, b: a | b), ("majority", lambda a, b: b), ("1", lambda a, b: a), ("2", lambda a, b: b)],
)
def test_readers_become_one_mask(dataset, passes_the_kit, build, image, readers, expected):
    cases = passes_the_kit("lndb", dataset, readers=readers)
    _, masks = build("lndb", readers=readers).load(cases[0])
    a, b = (mask(where, 1, image.shape) > 0 for where in (A, B))
    assert np.array_equal(masks["lung nodule"], expected(a, b))


def test_a_scan_that_the_chosen_reader_did_not_read_is_not_annotated(dataset, build):
    cases = list(build("lndb", readers="2").discover(dataset))
    assert [bool(case.labels) for case in cases] == [True, False, False, False]
    assert [case.split for case in cases] == [None, None, None, "test"]
    with pytest.raises(ConfigError, match="readers"):
        build("lndb", readers="4")


def test_a_scan_without_a_finding_is_empty(dataset, build):
    adapter = build("lndb", readers="majority")
    cases = list(adapter.discover(dataset))
    assert not adapter.load(cases[2])[1]["lung nodule"].any()
    assert adapter.load(cases[1])[1]["lung nodule"].any()  # one of one is a majority


def test_of_two_readers_a_majority_is_both(tmp_path, build, mhd, image):
    mhd(tmp_path / "data0/LNDb-0001.mhd", image)
    mhd(tmp_path / "masks/LNDb-0001_rad1.mhd", mask(A, 1, image.shape))
    mhd(tmp_path / "masks/LNDb-0001_rad2.mhd", mask(B, 1, image.shape))
    (tmp_path / "trainNodules.csv").write_text(ROWS)
    adapter = build("lndb", readers="majority")
    (case,) = adapter.discover(tmp_path)
    both = (mask(A, 1, image.shape) > 0) & (mask(B, 1, image.shape) > 0)
    assert np.array_equal(adapter.load(case)[1]["lung nodule"], both)


def test_what_is_wrong_is_told(tmp_path, build, mhd, image):
    adapter = build("lndb")
    with pytest.raises(DataError, match=r"holds no data0/LNDb-0001\.mhd"):
        list(adapter.discover(tmp_path))
    mhd(tmp_path / "data0/LNDb-0001.mhd", image)
    assert next(adapter.discover(tmp_path)).split is None  # without any mask, nothing tells the test part
    mhd(tmp_path / "masks/LNDb-0001_rad1.mhd", mask(A, 9, image.shape))
    with pytest.raises(DataError, match=r"holds masks but no trainNodules\.csv"):
        list(adapter.discover(tmp_path))
    table = tmp_path / "trainNodules.csv"
    table.write_text(ROWS)
    (case,) = adapter.discover(tmp_path)
    with pytest.raises(
        DataError, match=r"_rad1\.mhd: holds the value 9 in \d+ voxels; expected only 0, 1, 2: .*lists no other finding"
    ):
        adapter.load(case)
    table.write_text("LNDbID,RadID,x\n1,1,0\n")
    with pytest.raises(DataError, match=r"trainNodules\.csv: has no column FindingID, Nodule"):
        adapter.load(case)
    table.write_text("LNDbID,RadID,FindingID,Nodule\n1,1,one,1\n")
    with pytest.raises(DataError, match=r"trainNodules\.csv: cannot be read"):
        adapter.load(case)
