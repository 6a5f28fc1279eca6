"""``oncoseg plugins show``: what a component is, and a picture of what a normalizer does. Images are generated."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from typer.testing import CliRunner

from oncoseg_core import (
    DataError,
    MissingDependencyError,
    NormalizerSpec,
    OncoSegError,
    UnknownComponentError,
    UsageError,
    load_plugins,
)
from oncoseg_core.cli.app import app

DOCS = Path(__file__).parents[1] / "docs"


def show(*arguments):
    outcome = CliRunner().invoke(app, ["plugins", "show", *map(str, arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0
    return outcome.output


@pytest.fixture
def scan(tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 1000, (3, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_normalizer_is_told_and_drawn(tmp_path, scan):
    told = json.loads(show("ct", "--image", scan, "--set", "window=lung", "-o", tmp_path / "a.png", "--json"))
    assert (told["kind"], told["modality"], told["picture"]) == ("normalizer", "ct", str(tmp_path / "a.png"))
    assert told["settings"] == {"window": [-1000, 1000]}
    lung = np.asarray(Image.open(tmp_path / "a.png"))
    show("ct", "--image", scan, "--slice", 1, "-o", tmp_path / "b.png")
    assert lung.shape == np.asarray(Image.open(tmp_path / "b.png")).shape
    assert (lung != np.asarray(Image.open(tmp_path / "b.png"))).any()


@pytest.mark.parametrize("modality", [spec.modality for spec in load_plugins().specs(NormalizerSpec)])
def test_every_first_party_normalizer_draws_its_own_example(modality, tmp_path):
    show(modality, "-o", tmp_path / "x.png")
    picture = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert len(np.unique(picture)) > 30


def test_another_kind_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "settings: {'margin_px': (0.0, 0.0)" in show("box")
    assert json.loads(show("train", "--json"))["kind"] == "command"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["ctt"], UnknownComponentError, "no component 'ctt' is installed; did you mean 'ct'"),
        (["ct", "--kind", "model"], UnknownComponentError, "there is no model 'ct'; known: normalizer"),
        (["ct", "--slice", "7"], UsageError, "slice 7 does not exist: the image has slices 0 to 0"),
        (["ct", "--set", "windw=lung"], UsageError, "unknown key 'windw'; did you mean 'window'"),
        (["ct", "--image", "absent.nii.gz"], OncoSegError, "absent.nii.gz: no such file"),
        (["mri", "--channels", "flair"], DataError, "unknown channel mode 'flair'"),
        (["box", "--image", "x.png"], UsageError, "only a normalizer is drawn"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        show(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'oncoseg-core\[pictures\]'"):
        show("ct", "-o", tmp_path / "x.png")


def test_the_gallery_shows_every_modality_and_says_what_is_generated():
    page = (DOCS / "gallery.md").read_text()
    for spec in load_plugins().specs(NormalizerSpec):
        image = f"(images/gallery-{spec.modality}.png)"
        caption = page.partition(image)[2].partition("\n\n")[2].partition("\n\n")[0]
        assert caption.startswith(("*Real: ", "*Generated. ")), spec.modality
        assert (DOCS / "images" / f"gallery-{spec.modality}.png").stat().st_size > 10_000
