"""The store gives back what was put in, notices damage, and answers for a hundred thousand cases from its index."""

import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from oncoseg_core import Case, DataError, Geometry, Target, Volume
from oncoseg_store import PreparedStore, packed
from oncoseg_store.case_file import CaseFile, write_case_file
from oncoseg_store.index import INDEX, IndexRow, case_path, write_index
from oncoseg_store.levels import few_levels
from oncoseg_store.store import PreparedVoxels

DTYPES = ["bool", "u1", "i1", "<i2", ">i2", "u2", "i4", ">u4", "i8", "u8", "f2", "f4", ">f4", "f8"]
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40))


@st.composite
def volumes(draw):
    shape = draw(SHAPES)
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    raw = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(int(np.prod(shape)) * dtype.itemsize)
    voxels = (
        np.frombuffer(raw, "u1").reshape(shape) > 127 if dtype.kind == "b" else np.frombuffer(raw, dtype).reshape(shape)
    )
    if draw(st.booleans()):
        voxels = np.asfortranarray(voxels)
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    geometry = Geometry.from_parts(shape[1:], draw(st.tuples(*[st.floats(0.1, 9)] * 3)), turn, (0.1, -20.7, 1 / 3))
    names = tuple(f"channel {i}" for i in range(shape[0])) if draw(st.booleans()) else ()
    return Volume(voxels, geometry, "ct", draw(st.sampled_from([None, Path("a.nii")])), draw(st.booleans()), names)


def same(one, other):
    """Bit for bit: a NaN is itself, and -0.0 is not 0.0."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype.newbyteorder("<")
    assert np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other, dtype=one.dtype).tobytes()


def test_slices_keep_their_own_places(tmp_path):
    places = [(0.0, 0.0, 0.0), (0.0, 0.5, 2.0), (0.0, 0.5, 7.0)]
    geometry = Geometry.from_slices((4, 5), (1, 0, 0), (0, 1, 0), places)
    write_case_file(tmp_path / "a.case", Volume(np.zeros((1, 3, 4, 5)), geometry, "ct"), {}, {})
    found = CaseFile(tmp_path / "a.case").geometry
    assert np.array_equal(found.slice_origins, places)
    assert found.distance_mm(geometry) == 0
    write_case_file(tmp_path / "b.case", Volume(np.zeros((1, 2, 4, 5)), Geometry.from_parts((2, 4, 5)), "ct"), {}, {})
    assert CaseFile(tmp_path / "b.case").geometry.slice_origins is None


@settings(deadline=None, max_examples=60)
@given(volumes(), st.data())
def test_a_case_comes_back_bit_for_bit(volume, data):
    shape = volume.geometry.shape
    masks = {
        name: data.draw(hnp.arrays(bool, shape, elements=st.booleans(), fill=st.booleans()))
        for name in data.draw(st.lists(st.sampled_from(["liver", "tumour", "Läsion / µ"]), unique=True))
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new" / "a.case"
        write_case_file(path, volume, masks, {"extra": [1, "x"]})
        file = CaseFile(path)
        assert file.facts["extra"] == [1, "x"]
        assert np.array_equal(file.geometry.affine, volume.geometry.affine)
        assert file.targets == list(masks)
        for z in range(shape[0]):
            same(file.image_slice(z), volume.voxels[:, z])
            for number, (name, mask) in enumerate(masks.items()):
                assert np.array_equal(file.mask_slice(name, z), mask[z])
                assert file.mask_slice(name, z).dtype == bool
                assert file.foreground[number, z] == mask[z].sum()
        assert [entry.name for entry in path.parent.iterdir()] == ["a.case"]


scales = st.tuples(st.floats(1e-6, 1e6), st.floats(-1e6, 1e6))


@settings(deadline=None)
@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 99)
    ),
    st.one_of(st.just((1.0, 0.0)), scales),
    st.sampled_from(["<f4", "<f8"]),
    st.sampled_from([None, np.nan, np.inf, -0.0, 1e-310, 1e308]),
)
def test_levels_are_found_again_bit_for_bit_or_not_used(numbers, scale, dtype, stray):
    plane = (numbers * scale[0] + scale[1]).astype(dtype)
    if stray is not None:
        with np.errstate(over="ignore"):
            plane.flat[0] = stray
    levels = few_levels(plane)
    if levels is not None:
        assert levels.values[levels.codes].tobytes() == plane.tobytes()


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.731, 0.1), (2.5, -1024), (1 / 4096, 0)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_scaled_whole_numbers_take_little_more_space_than_whole_ones(tmp_path, slope, intercept, dtype):
    rng = np.random.default_rng(0)
    whole = rng.normal(300, 40, (1, 4, 256, 256)).astype(np.int16)
    whole[:, 0] = 7  # one level
    sizes = []
    for voxels in (whole, (whole * slope + intercept).astype(dtype)):
        volume = Volume(voxels, Geometry.from_parts(voxels.shape[1:]), "mri")
        write_case_file(tmp_path / "a.case", volume, {}, {})
        same(PreparedVoxels(CaseFile(tmp_path / "a.case"))[:], voxels)
        sizes.append((tmp_path / "a.case").stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


INDICES = st.one_of(st.integers(-4, 3), st.slices(4))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(INDICES, max_size=4), st.integers(0, 4))
def test_voxels_are_indexed_as_an_array_is(voxels_on_disk, keys, place):
    stored, whole = voxels_on_disk
    key = tuple(keys)
    if len(key) < 4 and place <= len(key):
        key = (*key[:place], Ellipsis, *key[place:])
    assert np.array_equal(stored[key], whole[key])
    assert stored[key].shape == whole[key].shape


@pytest.fixture(scope="module")
def voxels_on_disk(tmp_path_factory):
    whole = np.random.default_rng(0).integers(-9, 9, (4, 4, 4, 4)).astype(np.int16)
    path = tmp_path_factory.mktemp("case") / "a.case"
    write_case_file(path, Volume(whole, Geometry.from_parts((4, 4, 4)), "ct"), {}, {})
    return PreparedVoxels(CaseFile(path)), whole


def test_voxels_tell_what_an_array_tells(voxels_on_disk):
    stored, whole = voxels_on_disk
    assert (stored.shape, stored.ndim, stored.dtype, len(stored), stored.nbytes) == (
        whole.shape, whole.ndim, whole.dtype, len(whole), whole.nbytes,
    )  # fmt: skip
    assert np.array_equal(np.asarray(stored), whole)
    assert np.asarray(stored, dtype=float).dtype == float
    for outside in (4, -5):
        with pytest.raises(IndexError):
            stored[:, outside]
    with pytest.raises(IndexError):
        stored[0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("voxels", "masks", "part"),
    [
        (np.zeros((1, 2, 3, 4), complex), {}, "real numbers"),
        (np.zeros((1, 2, 3, 4), np.longdouble), {}, "real numbers"),
        (np.zeros((1, 2, 3, 4)), {"a": np.zeros((2, 3, 5), bool)}, "(2, 3, 4)"),
        (np.zeros((1, 2, 3, 4)), {"a": np.zeros((2, 3, 4), np.uint8)}, "expected bool"),
        (np.broadcast_to(np.zeros(1), (1, 2, 1 << 15, 1 << 14)), {}, "slices of up to"),
    ],
)
def test_what_the_store_cannot_hold_is_refused_before_anything_is_written(tmp_path, voxels, masks, part):
    volume = Volume(voxels, Geometry.from_parts(voxels.shape[1:]), "ct")
    with pytest.raises(DataError) as caught:
        write_case_file(tmp_path / "a.case", volume, masks, {})
    assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def make_store(folder, cases):
    """A store of these (targets with their counts per slice) by case, without files of cases."""
    rows = []
    for number, counts in enumerate(cases):
        record = Case(
            dataset="d",
            case_id=f"c{number}",
            patient_id=f"p{number}",
            modality="ct",
            images=(Path(f"/data/{number}.nii"),),
            targets=tuple(Target(name=name, labels=frozenset({1})) for name in counts),
        )
        foreground = np.array(list(counts.values()), np.int64)
        n_slices = foreground.shape[1] if counts else 3
        json = record.model_dump_json(exclude_defaults=True).encode()
        rows.append(IndexRow(f"{number:032x}", json, n_slices, f"{number:064x}", tuple(counts), foreground))
    write_index(folder, {"dataset": "d", "root": "/data", "settings": {}, "skipped": [], "normalizations": {}}, rows)
    return rows


counted = st.integers(1, 5).flatmap(
    lambda n: st.dictionaries(
        st.sampled_from(["liver", "tumour", "cyst"]),
        st.lists(st.sampled_from([0, 0, 1, 2**31]), min_size=n, max_size=n),
    )
)


@given(st.lists(counted, min_size=1, max_size=8))
def test_the_index_tells_every_case_and_where_each_target_is(cases):
    with tempfile.TemporaryDirectory() as folder:
        rows = make_store(Path(folder), cases)
        store = PreparedStore.open(folder)
        assert len(store) == len(cases)
        for number, (counts, row) in enumerate(zip(cases, rows, strict=True)):
            case = store.case(number)
            assert case.case.case_id == f"c{number}"
            assert case.case == Case.model_validate_json(row.record)
            assert case.content_hash == row.content_hash
            assert {name: list(found) for name, found in case.foreground.items()} == counts
            assert list(case.foreground) == list(counts)
            assert all(found.dtype == np.int64 for found in case.foreground.values())
            assert store.slices[number] == row.n_slices
        for target in store.targets:
            expected = [
                (number, z) for number, counts in enumerate(cases) for z, n in enumerate(counts.get(target, [])) if n
            ]
            assert list(zip(*map(list, store.foreground_slices(target)), strict=True)) == expected
        with pytest.raises(DataError, match="no case has the target 'spleen'"):
            store.foreground_slices("spleen")
        for outside in (-1, len(cases)):
            with pytest.raises(IndexError):
                store.case(outside)


def test_a_store_is_sent_to_a_worker_as_its_folder(tmp_path):
    make_store(tmp_path, [{"liver": [0, 5]}] * 1000)
    store = PreparedStore.open(tmp_path)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert pickle.loads(sent).case(7).case == store.case(7).case


def test_every_flipped_byte_of_a_case_is_noticed(tmp_path):
    """Wherever it is: in a slice when that is read, elsewhere when the file is opened."""
    path = tmp_path / "a.case"
    voxels = np.random.default_rng(0).integers(0, 9, (1, 2, 4, 5)).astype(np.int16)
    mask = voxels[0] > 3
    write_case_file(path, Volume(voxels, Geometry.from_parts((2, 4, 5)), "ct"), {"liver": mask}, {})
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DataError, match="damaged|cut short|another version|no part|format") as caught:
            read_all(CaseFile(path))
        assert str(path) in str(caught.value)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_all(CaseFile(path))


def read_all(file):
    for z in range(file.shape[1]):
        file.image_slice(z)
        for target in file.targets:
            file.mask_slice(target, z)


def test_every_flipped_byte_of_an_index_is_noticed(tmp_path):
    make_store(tmp_path, [{"liver": [0, 5]}])
    path = tmp_path / INDEX
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DataError, match="damaged|format"):
            PreparedStore.open(tmp_path)


def test_a_store_of_another_format_is_refused_with_what_to_do(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packed, "FORMAT", 7)
        make_store(tmp_path, [{}])
    with pytest.raises(DataError, match=r"format 7 .* reads 1; prepare the dataset anew: oncoseg datasets prepare"):
        PreparedStore.open(tmp_path)


def test_what_is_no_store_is_refused_with_what_to_do(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"is no prepared store .* --dest {folder}"):
            PreparedStore.open(folder)
    (tmp_path / "cases").mkdir()
    with pytest.raises(DataError, match="was not prepared to the end; run oncoseg datasets prepare again"):
        PreparedStore.open(tmp_path)


def test_a_case_file_that_is_gone_says_so(tmp_path):
    make_store(tmp_path, [{}])
    case = PreparedStore.open(tmp_path).case(0)
    with pytest.raises(DataError, match="is gone; was the dataset prepared anew"):
        case.stats["low"]
    voxels = np.zeros((1, 1, 2, 2))
    path = case_path(tmp_path, f"{0:032x}")
    write_case_file(path, Volume(voxels, Geometry.from_parts((1, 2, 2)), "ct"), {}, {"stats": {}})
    volume = PreparedStore.open(tmp_path).case(0).volume
    shutil.rmtree(tmp_path / "cases")
    with pytest.raises(DataError, match="is gone"):
        volume.voxels[:, 0]


def test_a_target_that_is_not_annotated_is_no_empty_one(tmp_path):
    make_store(tmp_path, [{}])
    path = case_path(tmp_path, f"{0:032x}")
    write_case_file(path, Volume(np.zeros((1, 1, 2, 2)), Geometry.from_parts((1, 2, 2)), "ct"), {}, {"stats": {}})
    case = PreparedStore.open(tmp_path).case(0)
    assert "liver" not in case.foreground
    with pytest.raises(DataError, match="'liver' is not annotated"):
        case.mask("liver", 0)
