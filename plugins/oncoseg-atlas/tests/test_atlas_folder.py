"""The folder of atlases: what it may hold, what is refused and how that is said, what is kept of it."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import ATLASES, FAST, NAMES, describe, grid, sitk_image, write_case

from oncoseg_atlas.cache import Cache
from oncoseg_atlas.folder import AtlasFolder
from oncoseg_atlas.fusion import Tally, _staple
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import ConfigError, DataError, ExporterSpec, Segmentation, load_plugins
from oncoseg_core.imaging import read_image

PLACE = ATLASES[0].place
COARSE = grid((12, 10, 10), PLACE)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "atlases"
    write_case(folder / "Smith^John", ATLASES[0], COARSE)
    describe(folder)
    return folder


def opened(root, tmp_path, **settings):
    return AtlasFolder(AtlasSettings(folder=root, **FAST, **settings), Cache(2**30, tmp_path / "kept"))


def test_structures_are_those_of_all_cases(root, tmp_path):
    write_case(root / "two", ATLASES[1], grid((12, 10, 10), ATLASES[1].place), keep=(1,))
    folder = opened(root, tmp_path)
    assert folder.structures == ("Heart", "Lung_L", "Lung_R", "SpinalCord")
    assert [case.structures for case in folder.cases] == [tuple(NAMES.values()), ("Lung_L",)]


def test_one_file_for_each_structure(root, tmp_path):
    case = root / "Smith^John"
    label = sitk.ReadImage(str(case / "structures.nrrd"))
    (case / "structures.nrrd").unlink()
    (case / "structures").mkdir()
    for number in (1, 3):
        sitk.WriteImage(label == number, str(case / "structures" / f"{NAMES[number]}.nii.gz"))
    assert opened(root, tmp_path).structures == ("Heart", "Lung_L")


def test_a_series_and_its_rtstruct(tmp_path):
    """As a planning system exports them; read by whatever reader is installed."""
    series = pytest.importorskip("oncoseg_dicom")
    root = tmp_path / "atlases"
    case = root / "one"
    volume, label = ATLASES[0].scan(COARSE)
    origins = [COARSE.index_to_lps([[0, 0, k]])[0] for k in range(COARSE.shape[0])]
    series.write_series(case / "image", volume.voxels[0], origins, pixel_spacing=(10.0, 10.0))
    registry = load_plugins()
    image = read_image(registry, case / "image")
    exporter = registry.build(ExporterSpec, "rtstruct", {"source": case / "image"})
    masks = {"heart": label == 3, "Ring_PTV": label == 1}
    exporter.export(Segmentation(masks, image.geometry, image_handle=image.handle), case / "structures.dcm")
    (root / "atlases.yaml").write_text("modality: ct\nrename: {heart: Heart}\nstructures: [Heart]\n")
    folder = opened(root, tmp_path)
    assert folder.structures == ("Heart",)
    shares = folder.load(folder.cases[0]).masks["Heart"].shares
    assert shares.sum(dtype=float) / 255 == pytest.approx(np.count_nonzero(label == 3), rel=0.02)


def test_a_case_of_its_own_names(root, tmp_path):
    (root / "Smith^John" / "names.yaml").write_text("1: A\n2: B\n3: C\n4: D\n")
    assert opened(root, tmp_path).structures == ("A", "B", "C", "D")


def spoil(kind, case):
    image = sitk.ReadImage(str(case / "image.nrrd"))
    if kind == "no image":
        (case / "image.nrrd").unlink()
    elif kind == "two images":
        shutil.copy(case / "image.nrrd", case / "image.mha")
    elif kind == "no structures":
        (case / "structures.nrrd").unlink()
    elif kind == "other grid":
        sitk.WriteImage(image[:, :, 1:] > 0, str(case / "structures.nrrd"))
    elif kind == "no name":
        sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8) * 77, str(case / "structures.nrrd"))
    elif kind == "no body":
        sitk.WriteImage(image * 0 - 1000, str(case / "image.nrrd"))
    elif kind == "damaged":
        (case / "image.nrrd").write_bytes(b"NRRD0004\n")
    elif kind == "one name twice":
        (case / "names.yaml").write_text("1: A\n2: A\n3: C\n4: D\n")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no image", "it holds no `image`: expected one file or folder"),
        ("two images", "it holds image.mha and image.nrrd as `image`"),
        ("no structures", "it holds no `structures`"),
        ("other grid", "they must be on one grid"),
        ("no name", "holds 77, which has no name in names.yaml or atlases.yaml"),
        ("no body", "shows no body"),
        ("damaged", "case 1/image.nrrd"),
        ("one name twice", "share a name"),
    ],
)
def test_a_bad_case_is_left_out_and_named_by_its_number(root, tmp_path, kind, reason):
    """The folders may be called as patients are: messages are not."""
    shutil.copytree(root / "Smith^John", root / "Zed^Zoe")
    spoil(kind, root / "Smith^John")
    folder = opened(root, tmp_path)
    assert len(folder.cases) == 1
    (note,) = folder.notes
    assert note.startswith("atlas case 1 is left out: ")
    assert reason in note
    assert "Smith" not in note
    shutil.rmtree(root / "Zed^Zoe")
    with pytest.raises(DataError, match="holds no sound case among 1; atlas case 1 is left out"):
        opened(root, tmp_path)


def test_a_folder_that_is_none(root, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        opened(root / "nothing", tmp_path)
    (root / "atlases.yaml").unlink()
    with pytest.raises(DataError, match=r"holds no atlases.yaml; expected one with at least `modality: ct`"):
        opened(root, tmp_path)
    (root / "atlases.yaml").write_text("modality: ct\nmodalty: 3\n")
    with pytest.raises(ConfigError, match="modalty"):
        opened(root, tmp_path)


def test_the_digest_is_of_the_contents(root, tmp_path):
    before = opened(root, tmp_path).sha256
    (root / "Smith^John").rename(root / "renamed")
    assert opened(root, tmp_path).sha256 == before
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "renamed" / "structures.nrrd")))
    label[10, 10, 10] ^= 1
    sitk.WriteImage(sitk_image(label, COARSE), str(root / "renamed" / "structures.nrrd"))
    assert opened(root, tmp_path).sha256 != before


def test_a_case_is_made_ready_once(root, tmp_path, monkeypatch):
    opened(root, tmp_path)
    monkeypatch.setattr(AtlasFolder, "_make", lambda *_: pytest.fail("made again"))
    folder = opened(root, tmp_path)
    assert folder.load(folder.cases[0]).masks


def test_the_cache_is_bounded_private_and_heals(tmp_path):
    cache = Cache(3000, tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, 900, dtype=np.uint8)
    for number in range(5):
        cache.keep(f"key{number}", {"a": noise})
    kept = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert 1 <= len(kept) <= 2
    assert "key4.npz" in kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.npz"))
    (tmp_path / "key4.npz").write_bytes(b"PK damaged")
    assert cache.find("key4") is None
    assert np.array_equal(cache.get("key4", lambda: {"a": noise})["a"], noise)


def test_agreement_is_the_mean_dice_of_all_pairs():
    one, two, three = (np.zeros((1, 1, 8), bool) for _ in range(3))
    one[..., :4], two[..., 2:6] = True, True
    tally = Tally(3)
    tally.add([one, two, three])
    assert tally.voters == [0, 1]  # the third puts it nowhere in this image
    assert tally.agreement == pytest.approx(0.5)
    three[..., :4] = True
    tally = Tally(3)
    tally.add([one, two, three])
    assert tally.agreement == pytest.approx((0.5 + 1 + 0.5) / 3)


def test_staple_believes_the_two_that_agree():
    masks = [np.zeros((4, 8, 8), bool) for _ in range(3)]
    masks[0][1:3, 2:6, 2:6] = masks[1][1:3, 2:6, 2:6] = True
    masks[2][0:1, 0:2, 0:2] = True
    assert np.array_equal(_staple(masks) > 127, masks[0])
