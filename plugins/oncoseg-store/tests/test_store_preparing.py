"""Preparing a dataset: whatever interrupts it, a store holds whole cases only, and a further run completes it.

The dataset is a plugin made for the test, so that the processes that prepare find it as they would find anybody's. Its
scans are generated; the last test takes real ones.
"""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import (
    Case,
    ConfigError,
    DataError,
    DatasetSpec,
    Geometry,
    ImageReadError,
    LoraSpec,
    ModelSpec,
    RunError,
    StorageError,
    UnknownComponentError,
    Volume,
    load_plugins,
)
from oncoseg_core.imaging.voxel_hash import content_hash
from oncoseg_core.path.normalization import Normalization
from oncoseg_core.path.preprocess import Preprocessor, mask_to_model
from oncoseg_core.path.settings import PathSettings
from oncoseg_store import PreparedStore, one_case, packed
from oncoseg_store.index import INDEX
from oncoseg_store.one_case import PreparationJob
from oncoseg_store.preparing import prepare_dataset
from oncoseg_store.sources import source_states

PLUGIN = """
from oncoseg_core import DatasetSpec, Target, hookimpl

TOY = DatasetSpec(
    name="toy", factory="toyset.adapter:Toy", summary="made up", modalities=("ct", "mri"), licence="none", url="none",
    citation="none", targets=(Target(name="lesion", labels={1}), Target(name="all", labels={1, 2})),
)

@hookimpl
def oncoseg_datasets():
    yield TOY
"""
ADAPTER = """
import os
import time

from oncoseg_core import Case
from oncoseg_core import DataError
from oncoseg_core import Settings
from oncoseg_core import FileDataset
from toyset.plugin import TOY

class ToySettings(Settings):
    modality: str = "ct"
    same_id: bool = False

class Toy(FileDataset):
    Settings = ToySettings

    def discover(self, root):
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        for image in sorted(root.glob("image*.nrrd")):
            label = root / image.name.replace("image", "label")
            yield Case(
                dataset="toy", case_id="one" if self.settings.same_id else image.stem, patient_id=image.stem,
                modality=self.settings.modality, images=(image,), labels=(label,) if label.exists() else (),
                targets=TOY.targets if label.exists() else (),
            )

    def load(self, case):
        slow = os.environ.get("TOY_SECONDS")
        if slow:
            time.sleep(float(slow))
        if "murder" in case.case_id:
            os._exit(9)
        if "odd" in case.case_id:
            raise KeyError("column\\n7")
        return super().load(case)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The plugin ``toyset`` installed for this process and its children; returns where a program of its own finds it."""
    place = tmp_path / "site"
    package, metadata = place / "toyset", place / "toyset-1.0.dist-info"
    package.mkdir(parents=True)
    metadata.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN)
    (package / "adapter.py").write_text(ADAPTER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toyset\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[oncoseg]\ntoyset = toyset.plugin\n")
    monkeypatch.syspath_prepend(place)
    for name in [name for name in sys.modules if name.partition(".")[0] == "toyset"]:
        monkeypatch.delitem(sys.modules, name)
    return place


def write_scan(root, name, seed, shape=(5, 30, 40), labelled=True):
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(-1000, 1000, shape).astype(np.int16))
    label = sitk.GetImageFromArray((rng.random(shape) < 0.1).astype(np.uint8) + (rng.random(shape) < 0.1))
    for one, kind in ((image, "image"), (label, "label")):
        one.SetSpacing((0.7, 0.8, 3.0))
        if kind == "image" or labelled:
            sitk.WriteImage(one, str(root / f"{kind}{name}.nrrd"))


@pytest.fixture
def root(tmp_path, toy):
    for number in range(4):
        write_scan(tmp_path / "data", number, number, labelled=number != 2)
    return tmp_path / "data"


def job(folder, settings=(), normalizers=()):
    return PreparationJob("toy", folder, dict(settings), dict(normalizers))


def prepare(folder, root, workers=1, **options):
    return prepare_dataset(load_plugins(), job(folder, **options), root, workers)


def content(folder):
    """Every file of a store but its lock, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def finished(folder):
    """The files of cases that bear their final name."""
    return list(folder.glob("cases/*/[0-9a-f]*.case"))


def test_the_store_holds_what_the_adapter_loads(tmp_path, root):
    report = prepare(tmp_path / "store", root)
    assert (report.prepared, report.kept, report.skipped, report.across) == (4, 0, [], [])
    assert report.bytes == sum(map(len, content(tmp_path / "store").values()))
    store = PreparedStore.open(tmp_path / "store")
    adapter = load_plugins().build(DatasetSpec, "toy")
    cases = list(adapter.discover(root))
    assert [store.case(number).case for number in range(len(store))] == cases
    for number, case in enumerate(cases):
        volume, masks = adapter.load(case)
        stored = store.case(number)
        assert stored.volume.voxels.dtype == volume.voxels.dtype
        assert np.array_equal(stored.volume.voxels, volume.voxels)
        assert np.array_equal(stored.volume.geometry.affine, volume.geometry.affine)
        assert (stored.volume.source, stored.volume.modality) == (case.images[0], "ct")
        assert stored.content_hash == content_hash(volume.voxels, volume.geometry)
        assert set(stored.foreground) == set(masks)
        for target, mask in masks.items():
            assert np.array_equal(stored.foreground[target], mask.sum(axis=(1, 2)))
            assert all(np.array_equal(stored.mask(target, z), mask[z]) for z in range(len(mask)))


def test_two_processes_make_the_same_store_as_one(tmp_path, root):
    prepare(tmp_path / "one", root, 1)
    prepare(tmp_path / "two", root, 2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_names_of_files_tell_nothing_of_the_patient(tmp_path, root):
    write_scan(root, "MUELLER", 9)
    prepare(tmp_path / "store", root)
    names = [part for name in content(tmp_path / "store") for part in Path(name).parts]
    assert not any("image" in name or "MUELLER" in name for name in names)


def test_a_second_run_reads_nothing_again_and_a_changed_source_is_made_anew(tmp_path, root, monkeypatch):
    folder = tmp_path / "store"
    prepare(folder, root)
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(one_case.CasePreparer, "_write", lambda *_: pytest.fail("read again"))
        report = prepare(folder, root)
    assert (report.prepared, report.kept) == (0, 4)
    assert content(folder) == before

    old = PreparedStore.open(folder)
    write_scan(root, 1, 77)
    report = prepare(folder, root)
    assert (report.prepared, report.kept) == (1, 3)
    store = PreparedStore.open(folder)
    assert store.case(1).content_hash != old.case(1).content_hash
    assert np.array_equal(store.case(1).volume.voxels[0], sitk.GetArrayFromImage(sitk.ReadImage(root / "image1.nrrd")))
    assert len(content(folder)) == len(before), "the old file of the case is gone"

    os.utime(root / "label3.nrrd", ns=(1, 1))  # the label counts as well
    assert prepare(folder, root).prepared == 1
    (root / "image0.nrrd").unlink()
    assert prepare(folder, root).prepared == 0
    assert len(PreparedStore.open(folder)) == 3


@pytest.mark.parametrize(("image", "beside"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw.gz"), ("series", "series/2.dcm")])
def test_files_behind_a_header_and_in_a_folder_count_as_sources(tmp_path, image, beside):
    (tmp_path / "series").mkdir()
    for path in (tmp_path / beside, tmp_path / "other.raw", tmp_path / "series" / "1.dcm"):
        path.write_text("1")
    if image != "series":
        (tmp_path / image).write_text("header")
    case = Case(dataset="d", case_id="c", patient_id="p", modality="ct", images=(tmp_path / image,))
    before = source_states(case)
    (tmp_path / "other.raw").write_text("another case's")
    assert source_states(case) == before
    (tmp_path / beside).write_text("changed")
    assert source_states(case) != before
    (tmp_path / image).rename(tmp_path / "elsewhere")
    with pytest.raises(ImageReadError, match=f"{image}: No such file"):
        source_states(case)


def test_a_source_that_changes_while_it_is_read_is_not_kept(tmp_path, root, monkeypatch):
    from oncoseg_core import FileDataset

    loaded = FileDataset.load

    def load(self, case):
        found = loaded(self, case)
        os.utime(case.images[0], ns=(5, 5))
        return found

    adapter = type(load_plugins().build(DatasetSpec, "toy"))
    monkeypatch.setattr(adapter, "load", load)
    with pytest.raises(DataError, match="none of 4 cases could be read; the first: .* changed while it was read"):
        prepare(tmp_path / "store", root)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_case_that_cannot_be_read_is_listed_and_the_others_are_prepared(tmp_path, root, workers):
    for number in (4, 5):
        write_scan(root, number, number)
    write_scan(root, "odd", 6)
    whole = (root / "image3.nrrd").read_bytes()
    (root / "image3.nrrd").write_bytes(whole[: len(whole) // 2])
    report = prepare(tmp_path / "store", root, workers)
    assert report.prepared == 5
    assert [skipped.case_id for skipped in report.skipped] == ["image3", "imageodd"]
    assert "cut short" in report.skipped[0].reason
    assert "KeyError" in report.skipped[1].reason
    assert "\n" not in report.skipped[1].reason
    store = PreparedStore.open(tmp_path / "store")
    assert [store.case(n).case.case_id for n in range(len(store))] == ["image0", "image1", "image2", "image4", "image5"]
    assert [case_id for case_id, _ in store.skipped] == ["image3", "imageodd"]

    (root / "image3.nrrd").write_bytes(whole)
    report = prepare(tmp_path / "store", root, workers)
    assert (report.prepared, report.kept, len(report.skipped)) == (1, 5, 1)


def test_empty_roots_and_repeated_ids_are_refused(tmp_path, root):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no case"):
        prepare(tmp_path / "store", tmp_path / "empty")
    with pytest.raises(DataError, match="more than one case has the id one"):
        prepare(tmp_path / "store", root, settings={"same_id": True})
    with pytest.raises(UnknownComponentError, match="'toy'"):
        prepare_dataset(load_plugins(), PreparationJob("tog", tmp_path / "store", {}, {}), root, 1)
    with pytest.raises(ConfigError, match="unknown key 'windw'"):
        prepare(tmp_path / "store", root, normalizers={"ct": {"windw": [0, 1]}})
    assert not (tmp_path / "store" / INDEX).exists()


def test_a_store_is_not_replaced_by_that_of_another_folder(tmp_path, root):
    prepare(tmp_path / "store", root)
    before = content(tmp_path / "store")
    write_scan(tmp_path / "other", 1, 1)
    with pytest.raises(DataError, match=f"is the prepared store of 'toy' from {root}; choose another --dest"):
        prepare(tmp_path / "store", tmp_path / "other")
    assert content(tmp_path / "store") == before


def test_files_of_others_in_the_stores_folder_are_left_alone(tmp_path, root):
    theirs = [tmp_path / "store" / "cases" / name for name in ("notes.txt", "ab/scan.case", "ab/.partial-x.nii.gz")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    prepare(tmp_path / "store", root)
    assert [path.read_text() for path in theirs] == ["mine"] * 3


def test_what_a_killed_run_left_half_written_is_removed(tmp_path, root):
    half = tmp_path / "store" / "cases" / "ab" / f".partial-{'0' * 32}.case"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    prepare(tmp_path / "store", root)
    assert not half.exists()


def test_two_runs_at_once_are_refused(tmp_path, root):
    def during(_what, done, _total):
        if done == 1:
            with pytest.raises(RunError, match="another oncoseg datasets prepare is writing there"):
                prepare(tmp_path / "store", root)

    prepare_dataset(load_plugins(), job(tmp_path / "store"), root, 1, during)
    assert prepare(tmp_path / "store", root).kept == 4


def test_a_place_that_cannot_be_written_is_named(tmp_path, root):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/store: a part of that path is a file"):
        prepare(tmp_path / "file" / "store", root)


def test_a_damaged_case_is_made_anew(tmp_path, root):
    folder = tmp_path / "store"
    prepare(folder, root)
    before = content(folder)
    path = next((folder / "cases").rglob("*.case"))
    path.write_bytes(path.read_bytes()[:-100])
    report = prepare(folder, root)
    assert (report.prepared, report.kept) == (1, 3)
    assert content(folder) == before


def test_a_store_of_another_format_is_made_anew(tmp_path, root, monkeypatch):
    with monkeypatch.context() as patch:
        for module in (packed, one_case):
            patch.setattr(module, "FORMAT", 7)
        prepare(tmp_path / "store", root)
    with pytest.raises(DataError, match="format 7"):
        PreparedStore.open(tmp_path / "store")
    assert prepare(tmp_path / "store", root).prepared == 4
    prepare(tmp_path / "fresh", root)
    assert content(tmp_path / "store") == content(tmp_path / "fresh")


def test_statistics_made_otherwise_are_refused_with_the_command(tmp_path, root):
    registry = load_plugins()
    prepare(tmp_path / "store", root, settings={"modality": "mri"})
    store = PreparedStore.open(tmp_path / "store")
    normalization = Normalization(registry, "mri", {})
    volume = store.case(0).volume
    assert store.stats_for(0, normalization) == normalization.fit(
        Volume(np.asarray(volume.voxels), volume.geometry, "mri")
    )
    with pytest.raises(DataError) as caught:
        store.stats_for(0, Normalization(registry, "mri", {"mri": {"percentiles": (2, 98)}}))
    assert f"oncoseg datasets prepare toy {root} --dest {tmp_path / 'store'}" in str(caught.value)
    assert "--set normalizers.mri.percentiles=[2.0, 98.0]" in str(caught.value)
    with pytest.raises(DataError, match="holds no 'ct' images; it has mri"):
        store.stats_for(0, Normalization(registry, "ct", {}))
    normalization.identity = normalization.identity.replace('"oncoseg-modalities": "', '"oncoseg-modalities": "9.')
    with pytest.raises(DataError, match=r"were made with plugins .*, and not .*9\."):
        store.stats_for(0, normalization)
    report = prepare(
        tmp_path / "store", root, settings={"modality": "mri"}, normalizers={"mri": {"percentiles": [2, 98]}}
    )
    assert (report.prepared, report.kept) == (4, 0)
    PreparedStore.open(tmp_path / "store").require(Normalization(registry, "mri", {"mri": {"percentiles": (2, 98)}}))


def test_a_case_cut_across_its_thick_axis_is_told(tmp_path, root):
    image = sitk.ReadImage(root / "image2.nrrd")
    image.SetSpacing((3.0, 0.8, 0.7))
    sitk.WriteImage(image, str(root / "image2.nrrd"))
    assert prepare(tmp_path / "store", root).across == ["image2"]


def test_a_worker_that_dies_ends_the_run_in_one_line_and_finished_cases_are_kept(tmp_path, root):
    write_scan(root, "9murder", 1)
    with pytest.raises(RunError, match="a worker process died"):
        prepare(tmp_path / "store", root, 2)
    assert not (tmp_path / "store" / INDEX).exists()
    (root / "image9murder.nrrd").unlink()
    report = prepare(tmp_path / "store", root, 2)
    assert report.prepared + report.kept == 4


MAIN = """
import sys
from pathlib import Path
from oncoseg_core import OncoSegError
from oncoseg_store.one_case import PreparationJob
from oncoseg_store.preparing import prepare_dataset
from oncoseg_core import load_plugins

if __name__ == "__main__":
    if len(sys.argv) > 4:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
    try:
        prepare_dataset(load_plugins(), PreparationJob("toy", Path(sys.argv[1]), {}, {}), Path(sys.argv[2]), int(sys.argv[3]))
    except OncoSegError as error:
        sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def program(tmp_path, toy, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(toy), os.environ.get("PYTHONPATH")])))
    path = tmp_path / "main.py"
    path.write_text(MAIN)
    return [sys.executable, str(path)]


def test_kill_9_leaves_nothing_that_is_read_and_a_rerun_completes_the_store(tmp_path, root, program, monkeypatch):
    for number in range(4, 9):
        write_scan(root, number, number)
    prepare(tmp_path / "undisturbed", root)
    folder = tmp_path / "store"
    monkeypatch.setenv("TOY_SECONDS", "0.05")
    rng = np.random.default_rng()
    for workers in (1, 2, 1):
        process = subprocess.Popen([*program, str(folder), str(root), str(workers)])
        moment = time.monotonic() + 20
        started = len(finished(folder))
        while len(finished(folder)) <= started < 8 and time.monotonic() < moment:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(children) >= (workers if workers > 1 else 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in finished(folder):
            one_case.CaseFile(path)
        if not (folder / INDEX).exists():
            with pytest.raises(DataError, match="was not prepared to the end"):
                PreparedStore.open(folder)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(Path(f"/proc/{pid}").exists() for pid in children), "the workers ended with their parent"
    monkeypatch.delenv("TOY_SECONDS")
    report = prepare(folder, root)
    assert report.kept >= 1
    assert content(folder) == content(tmp_path / "undisturbed")


@pytest.mark.parametrize(("workers", "limit"), [(1, 6_000), (2, 6_000), (1, 1_000)])
def test_a_full_disk_ends_the_run_in_one_line_and_leaves_whole_files_only(tmp_path, root, program, workers, limit):
    """The limit on file size makes every write beyond it fail, as a full disk would."""
    write_scan(root, "-small", 1, shape=(1, 4, 5))
    folder = tmp_path / "store"
    done = subprocess.run(
        [*program, str(folder), str(root), str(workers), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"StorageError: cannot write {folder}")
    assert not (folder / INDEX).exists()
    assert not list(folder.rglob(".partial-*"))
    for path in finished(folder):
        one_case.CaseFile(path)
    assert prepare(folder, root).kept == (1 if limit == 6_000 else 0)


def test_preparing_takes_the_memory_of_one_volume_and_its_masks(tmp_path, root, monkeypatch):
    shape = (64, 256, 256)
    voxels = np.random.default_rng(0).integers(-1000, 1000, (1, *shape)).astype(np.int16)
    mask = voxels[0] > 900

    def load(_self, case):
        return Volume(voxels.copy(), Geometry.from_parts(shape), case.modality), {"lesion": mask.copy()}

    monkeypatch.setattr(type(load_plugins().build(DatasetSpec, "toy")), "load", load)
    for modality in ("ct", "mri"):
        tracemalloc.start()
        prepare(tmp_path / modality, root, settings={"modality": modality})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < voxels.nbytes + mask.nbytes + 6 * 1024**2


def test_real_scans_reach_the_model_bit_for_bit_the_same(tmp_path):
    registry = load_plugins()
    adapter = registry.build(DatasetSpec, "samples")
    folder = adapter.fetch(lambda *_: None)
    prepare_dataset(registry, PreparationJob("samples", tmp_path, {}, {}), folder, 2)
    store = PreparedStore.open(tmp_path)
    cases = list(adapter.discover(folder))
    assert len(store) == len(cases) == 5
    for number, case in enumerate(cases):
        volume, masks = adapter.load(case)
        stored = store.case(number)
        for size in (256, 512):
            path = Preprocessor(registry, case.modality, model(size), PathSettings())
            stats = store.stats_for(number, path.normalization)
            assert stats == path.fit(volume)
            (target,) = masks
            for index in (0, int(masks[target].any(axis=(1, 2)).argmax()), volume.geometry.shape[0] - 1):
                assert path.pixels(stored.volume, index, stats).equal(path.pixels(volume, index, stats))
                assert path.slice_key(stored.volume, index, stats) == path.slice_key(volume, index, stats)
                ours, theirs = stored.mask(target, index), masks[target][index]
                assert mask_to_model(ours, path.grid(stored.volume)).equal(mask_to_model(theirs, path.grid(volume)))


def model(size):
    return ModelSpec(
        name="none",
        factory="tests:None",
        summary="test",
        prompt_kinds=("box",),
        input_size=size,
        input_range=(-1.0, 1.0),
        lora=LoraSpec(targets=("qkv",)),
        weights="none",
    )
