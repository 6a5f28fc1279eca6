"""Segmenting a file: prompts as they are written, which slices, what is told, and what is refused before a model is built.

The model is a stand-in whose right answers are known; the images are generated.
"""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import toy_series
from toy_engine import Brighter, image_file, registry_of

from oncoseg_core import (
    Box,
    DataError,
    Exemplar,
    Geometry,
    OncoSegError,
    Point,
    QualityError,
    StorageError,
    Text,
    UsageError,
    Volume,
)
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.imaging.voxel_hash import content_hash
from oncoseg_segment.cli.prompt_options import PromptOptions
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.files.run import SegmentRequest, segment_file
from oncoseg_segment.prompts.placement import place
from oncoseg_segment.prompts.prompt_file import read_prompts
from oncoseg_segment.prompts.slices import parse_slices


@pytest.fixture
def registry():
    return registry_of()


@pytest.fixture
def image(tmp_path):
    return image_file(tmp_path)


OF_PROMPT = ("slice_index", "slices", "propagate", "target", "units")


def requested(image, prompt, **options):
    """A request for one structure; the mask goes to ``mask.nii.gz`` beside the image."""
    own = {key: options.pop(key) for key in OF_PROMPT if key in options}
    structures = [PromptOptions(**prompt, **own).structure()]
    return request(image, structures, **{"outputs": [f"{image.parent}/mask.nii.gz"], "overwrite": True, **options})


OF_REQUEST = ("outputs", "image_settings", "export_settings", "strict", "identify", "overwrite", "inputs")


def request(image, structures, **options):
    """A request with the model and modality of these tests, on whole slices unless ``zoom`` is given."""
    of_request = {key: options.pop(key) for key in OF_REQUEST if key in options}
    settings = SegmentSettings(**{"model": "brighter", "modality": "unit", "zoom": None, **options})
    return SegmentRequest(image=image, structures=structures, settings=settings, **of_request)


def segmented(registry, image, prompt, **options):
    """What is told of the run and of the structure, and the mask that was written: bool ``(z, y, x)``."""
    manifest = segment_file(registry, requested(image, prompt, **options))
    assert json.loads((image.parent / "mask.json").read_text()) == manifest
    mask = read_volume(image.parent / "mask.nii.gz", "label")
    read_volume(image, "unit").geometry.require_same_grid(mask.geometry, "image", "mask")
    (structure,) = manifest["structures"]
    return {**manifest, **structure}, mask.voxels[0] > 0


BOX = {"boxes": ["38,28,62,52"]}


def test_one_slice(registry, image):
    report, mask = segmented(registry, image, BOX, slice_index=3, model_settings={"weights": "abc"})
    assert list(np.flatnonzero(mask.any((1, 2)))) == [3]
    assert mask[3, 30:50, 40:60].all()
    assert mask.sum() == 400
    assert report["name"] == "object"
    assert report["size"] == "400 voxels, 0.25 mL on slice 3"
    assert report["slices"] == "3"
    assert report["smallest resolvable lesion"] == "1 mm in the slice; slices are 2.5 mm apart"
    assert (report["zoom"], report["model"]["weights"], report["warnings"]) == ("off", "abc", [])
    assert "presence" not in report
    assert "propagation" not in report
    assert report["device"] == "cpu, fp32"


def test_random_weights_are_told_loudly(registry, image):
    report, _ = segmented(registry, image, BOX, slice_index=3)
    (warning,) = report["warnings"]
    assert warning == "MODEL 'brighter' HAS RANDOM WEIGHTS (random:7): THIS MASK MEANS NOTHING"


def test_a_box_on_a_range_of_slices_both_included(registry, image):
    report, mask = segmented(registry, image, BOX, slices="1:4")
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4]
    assert report["slices"] == "1 to 4"
    assert report["size"] == "1200 voxels, 0.75 mL on 3 slices, 2 to 4"
    assert [row["voxels"] for row in report["per slice"]] == [0, 400, 400, 400]


def test_a_text_on_every_slice(registry, image):
    report, mask = segmented(registry, image, {"texts": ["lung tumour"]}, slices="all")
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4, 5]
    assert report["name"] == "lung tumour"
    assert (report["presence"], report["instances"]) == (0.9, 1)
    assert report["model's own score"] == 0.7  # of the slices that have it
    assert [row["presence"] for row in report["per slice"]] == [pytest.approx(0.1)] * 2 + [pytest.approx(0.9)] * 4 + [
        pytest.approx(0.1)
    ] * 2


def test_an_absent_concept_is_an_empty_mask_and_says_so(registry, image):
    told, mask = segmented(registry, image, {"texts": ["tumour"]}, slice_index=0, model_settings={"weights": "abc"})
    assert not mask.any()
    assert told["size"] == "empty"
    assert (told["presence"], told["instances"], told["model's own score"]) == (0.1, 0, 0.2)
    assert told["warnings"] == ["no 'tumour' was found (presence 0.100): the mask is empty"]


def test_propagation_tells_why_it_ended(registry, image):
    told = []
    request = requested(
        image, BOX, slice_index=4, outputs=[f"{image.parent}/mask.nrrd"], propagate=True, target="lesion",
        propagation={"minimum_score": 0.5}, zoom={},
    )  # fmt: skip
    (report,) = segment_file(registry, request, lambda *what: told.append(what))["structures"]
    mask = read_volume(image.parent / "mask.nrrd", "label").voxels[0] > 0
    assert list(np.flatnonzero(mask.any((1, 2)))) == [2, 3, 4, 5]
    assert report["name"] == "lesion"
    assert report["slices"] == "2 to 5"
    assert report["propagation"] == (
        "towards the first slice: slice 1: the object vanished (0 pixels after 400); "
        "towards the last: slice 6: the object vanished (0 pixels after 400)"
    )
    assert told


def test_zoom_is_told_and_a_cut_mask_warned_of(registry, image):
    report, mask = segmented(
        registry, image, BOX, slice_index=3, zoom={"when": "always", "context": 2, "magnification": 4}
    )
    assert report["zoom"] == "always: on 1 of 1 slices, to 48 x 48 pixels"
    assert mask[3, 30:50, 40:60].all()
    assert report["smallest resolvable lesion"].startswith("1 mm")
    inside = {"boxes": ["44,34,56,46"]}
    cut, _ = segmented(
        registry, image, inside, slice_index=3, zoom={"when": "always", "context": 1, "magnification": 90}
    )
    assert "on slice 3 the mask reaches the border of the zoomed window" in cut["warnings"][1]
    large, _ = segmented(registry, image, BOX, slice_index=3, zoom={"minimum_logits": 8})
    assert large["zoom"] == "auto: on no slice"


def test_a_picture_is_measured_in_pixels(registry, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((256, 256), dtype=np.uint8)), str(tmp_path / "skin.png"))
    report, _ = segmented(registry, tmp_path / "skin.png", {"boxes": ["1,1,9,9"]})
    assert report["smallest resolvable lesion"] == "4 pixels"


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ({}, {}, "no prompt was given: expected `box`, `point`, `text` or `exemplar`"),
        ({"boxes": ["1,1,5,5", "2,2,6,6"]}, {}, "--box is given 2 times: a structure has one; --prompts FILE takes several"),
        ({"texts": ["a", "b"]}, {}, "--text is given 2 times"),
        ({"boxes": ["1,2,3"]}, {}, "--box 1,2,3: expected four numbers"),
        ({"points": ["1;2"]}, {}, "--point 1;2: expected two numbers"),
        ({"exemplars": ["1,2,3,nought"]}, {}, "--exemplar 1,2,3,nought: expected four numbers"),
        ({"exemplars": ["9,2,3,8"]}, {}, "exemplar x0,y0,x1,y1 = .* has no area"),
        ({"texts": [" "]}, {}, "the text prompt is empty"),
        ({"exemplars": ["1,2,5,6"]}, {}, "model 'brighter' takes prompts of kind box, text, point, not 'exemplar'"),
        ({"points": ["1,2"]}, {"adapter": "x"}, "with an adapter takes no prompt of kind 'point': boxes go through"),
        ({"boxes": ["1,1,5,5"]}, {"adapter": "x"}, "with an adapter takes no prompt of kind 'box': boxes go through"),
        ({"boxes": ["200,1,205,5"]}, {}, "lies outside the slice, which is 128 pixels wide"),
        (BOX, {"slices": "1:2"}, "`slice_index` and `slices` are both given"),
        (BOX, {"slice_index": None, "slices": "1:2", "propagate": True}, "`propagate` starts from one slice"),
        (BOX, {"propagate": True, "propagation": {"tracker": "own"}}, "has no tracker of its own"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(registry, image, prompt, options, message):
    before = sorted(image.parent.iterdir())
    with pytest.raises(OncoSegError, match=message) as error:
        segmented(registry, image, prompt, **{"slice_index": 3, **options})
    assert "\n" not in str(error.value)
    assert sorted(image.parent.iterdir()) == before
    if "tracker" not in message:
        assert "brighter" not in registry.built  # a large model takes its time


def test_a_device_that_is_not_there_is_refused(registry, image, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch finds no CUDA device"):
        segmented(registry, image, BOX, slice_index=3, device="cuda")


def test_half_precision_is_told(registry, image):
    report, mask = segmented(registry, image, BOX, slice_index=3, device="cpu", precision="bf16")
    assert report["device"] == "cpu, bf16"
    assert mask.sum() == 400


def test_all_hints_are_one_prompt():
    options = PromptOptions(
        boxes=["1,2,3.5,4"], points=["5,6", "7,8"], negative_points=["9,10"], texts=["tumour"],
        exemplars=["1,1,2,2"], negative_exemplars=["3,3,4,4"],
    )  # fmt: skip
    volume = Volume(np.zeros((1, 1, 20, 20)), Geometry.from_parts((1, 20, 20)), "unit")
    assert place(options.structure(), volume).prompts == {0: (
        Box(1, 2, 3.5, 4), Point(5, 6), Point(7, 8), Point(9, 10, positive=False), Text("tumour"),
        Exemplar(1, 1, 2, 2), Exemplar(3, 3, 4, 4, positive=False),
    )}  # fmt: skip


@pytest.mark.parametrize(
    ("one", "several", "depth", "expected"),
    [
        (None, None, 1, [0]),
        (3, None, 5, [3]),
        (None, "1:3", 5, [1, 2, 3]),
        (None, "4:4", 5, [4]),
        (None, "all", 3, [0, 1, 2]),
    ],
)
def test_slices(one, several, depth, expected):
    assert list(parse_slices(one, several, depth, "scan")) == expected


@pytest.mark.parametrize(
    ("one", "several", "message"),
    [
        (
            None,
            None,
            "scan: has 5 slices; say on which one the prompt is: `slice_index` 0 to 4, or `slices` A:B or all",
        ),
        (5, None, "slice 5 does not exist: scan has slices 0 to 4"),
        (-1, None, "slice -1 does not exist"),
        (None, "3:5", "slice 5 does not exist"),
        (None, "-1:3", "slice -1 does not exist"),
        (None, "3:1", "the first slice comes after the last"),
        (None, "1-3", "expected A:B, both included, such as 20:29, or all"),
        (None, "1:2:3", "expected A:B"),
    ],
)
def test_slices_that_are_not_there(one, several, message):
    with pytest.raises(UsageError, match=message):
        parse_slices(one, several, 5, "scan")


def structures(tmp_path, *several, **more):
    """The structures of a file of prompts with these."""
    path = tmp_path / "asked.json"
    path.write_text(json.dumps({"structures": several, **more}))
    return read_prompts(path)


A, B = {"name": "a", "box": [38, 28, 3, 50, 52, 5]}, {"name": "b", "box": [44, 28, 4, 62, 52, 6]}
"""Two boxes on the bright square, columns 40 to 49 and 44 to 59: they share columns 44 to 49 on slices 4 and 5."""


def ask(image, asked, *outputs, **more):
    return request(image, asked, outputs=outputs, **{"model_settings": {"weights": "abc"}, **more})


@pytest.fixture
def series(tmp_path, image):
    """The same image as a series in a folder that is called as a series' UID is."""
    return toy_series.write_series(tmp_path / "1.2.840.113619.2.55.3.4711", read_volume(image, "unit").voxels[0])


def in_file(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_several_structures_in_one_call_each_slice_encoded_once(registry, image, tmp_path, monkeypatch):
    monkeypatch.setattr(Brighter, "encoded", 0)
    asked = structures(tmp_path, A, {"name": "b", "box": [52, 28, 4, 62, 52, 6]})
    manifest = segment_file(registry, ask(image, asked, f"{tmp_path}/mask.nrrd"))
    assert Brighter.encoded == 4  # slices 3 to 6
    label = read_volume(tmp_path / "mask.nrrd", "label").voxels[0]
    assert [int((label == value).sum()) for value in (1, 2)] == [3 * 20 * 10, 2 * 20 * 8]
    assert set(np.flatnonzero((label == 2).any((1, 2)))) == {4, 5}
    assert [(one["name"], one["number"]) for one in manifest["structures"]] == [("a", 1), ("b", 2)]


def test_a_slice_is_not_encoded_again_for_a_structure_that_is_followed(registry, image, tmp_path, monkeypatch):
    monkeypatch.setattr(Brighter, "encoded", 0)
    asked = structures(tmp_path, A, {"name": "b", "box": [52, 28, 62, 52], "slice": 4, "propagate": True})
    manifest = segment_file(registry, ask(image, asked, f"{tmp_path}/mask.nrrd", overlaps="first"))
    assert Brighter.encoded == 2  # by content, and the eight slices are of two kinds
    assert manifest["structures"][1]["slices"] == "2 to 5"
    assert "propagation" in manifest["structures"][1]
    assert "propagation" not in manifest["structures"][0]


@pytest.mark.parametrize(
    ("rule", "of_a", "of_b", "lost"),
    [("keep", 600, 640, [0, 0]), ("first", 600, 400, [0, 240]), ("highest-score", 360, 640, [240, 0])],
)
def test_overlaps(registry, series, tmp_path, rule, of_a, of_b, lost, monkeypatch):
    """The toy is surer of boxes further to the right here."""
    decode = Brighter.decode

    def surer(self, embedding, prompts):
        found = decode(self, embedding, prompts)
        return found if len(prompts) > 1 else found._replace(scores=torch.tensor([prompts[0][0].x0 / 100]))

    monkeypatch.setattr(Brighter, "decode", surer)
    out = f"contours={tmp_path}/out.toy"
    manifest = segment_file(registry, ask(series, structures(tmp_path, A, B), out, overlaps=rule))
    found = in_file(tmp_path / "out.toy")
    assert (found["a"].sum(), found["b"].sum()) == (of_a, of_b)
    assert [one["voxels given to others"] for one in manifest["structures"]] == lost
    assert [one["measurements"]["voxels"] for one in manifest["structures"]] == [of_a, of_b]
    assert manifest["overlaps"] == rule


def test_a_label_image_refuses_overlaps_and_names_the_option(registry, image, tmp_path):
    request = ask(image, structures(tmp_path, A, B), f"{tmp_path}/out/mask.nrrd")
    with pytest.raises(DataError, match="`overlaps` first or highest-score gives each voxel to one structure"):
        segment_file(registry, request)
    assert not (tmp_path / "out").exists()


LITTLE = {"name": "little", "box": [2, 2, 3, 9, 9, 3]}


def test_below_the_minimum_score_a_structure_is_left_out_and_the_values_of_others_stay(
    registry, series, image, tmp_path, monkeypatch
):
    decode = Brighter.decode
    monkeypatch.setattr(
        Brighter, "decode",
        lambda self, e, p: decode(self, e, p) if len(p) > 1 else decode(self, e, p)._replace(scores=torch.tensor([p[0][0].x0 / 100])),
    )  # fmt: skip
    asked = structures(tmp_path, A, B)  # scores .38 and .44
    more = {"minimum_score": 0.4, "overlaps": "first"}
    outputs = [f"contours={tmp_path}/a.toy", f"{tmp_path}/b.nrrd"]
    manifest = segment_file(registry, ask(series, asked, *outputs, **more))
    left_out, kept = manifest["structures"]
    assert left_out["left out"] == "the model's own score 0.380 is below the minimum of 0.4"
    assert (kept["left out"], kept["voxels given to others"]) == (None, 0)  # what is left out claims nothing
    assert list(in_file(tmp_path / "a.toy")) == ["b"]
    assert set(np.unique(read_volume(tmp_path / "b.nrrd", "label").voxels)) == {0, 2}
    assert manifest["warnings"] == ["'a' is left out: the model's own score 0.380 is below the minimum of 0.4"]
    assert manifest["minimum score"] == 0.4


def test_nothing_left_is_an_error_with_a_manifest(registry, series, tmp_path):
    request = ask(series, structures(tmp_path, A), f"contours={tmp_path}/out/a.toy", minimum_score=0.9)
    with pytest.raises(
        QualityError, match="nothing was exported: no structure is left .'a': the model's own score"
    ) as error:
        segment_file(registry, request)
    assert error.value.exit_code == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.json", "a.png"}
    manifest = json.loads((tmp_path / "out" / "a.json").read_text())
    assert manifest["outcome"].startswith("nothing was exported: no structure is left")
    assert manifest["outputs"] == []


def test_an_empty_structure_is_left_out_of_a_series_format(registry, series, tmp_path):
    manifest = segment_file(registry, ask(series, structures(tmp_path, A, LITTLE), f"contours={tmp_path}/a.toy"))
    assert list(in_file(tmp_path / "a.toy")) == ["a"]
    assert manifest["structures"][1]["left out"] == "nothing was found: the mask is empty"
    assert manifest["warnings"] == ["no 'little' was found: the mask is empty"]
    with pytest.raises(QualityError, match="no structure is left"):
        segment_file(registry, ask(series, structures(tmp_path, LITTLE), f"contours={tmp_path}/b.toy"))


def test_strict_exports_nothing_where_there_is_a_warning(registry, image, tmp_path):
    asked = structures(tmp_path, A)
    for number, (more, sound) in enumerate([({}, True), ({"model_settings": {}}, False)]):
        request = ask(image, asked, f"{tmp_path}/{number}/mask.nrrd", strict=True, **more)
        if sound:
            segment_file(registry, request)
        else:
            with pytest.raises(QualityError, match="`strict`, and there is a warning: MODEL 'brighter' HAS RANDOM"):
                segment_file(registry, request)
        assert (tmp_path / str(number) / "mask.nrrd").exists() == sound
        assert (tmp_path / str(number) / "mask.json").exists()


def test_what_the_reader_and_the_gate_find_is_in_the_manifest(registry, image, tmp_path):
    voxels = read_volume(image, "unit").voxels[0]
    voxels[:, :, 0] = 1.0
    series = toy_series.write_series(
        tmp_path / "s", voxels, notes=["1 slice seems to be missing"], burned=True, modality="other"
    )
    asked = structures(tmp_path, {"name": "a", "box": [0, 28, 0, 62, 52, 3]})
    manifest = segment_file(registry, ask(series, asked, f"contours={tmp_path}/a.toy"))
    told = [(one["about"], one["message"].partition(":")[0]) for one in manifest["findings"]]
    assert told == [
        ("image", "1 slice seems to be missing"),
        ("image", "its header says that text is burned into the image"),
        ("image", "the file says that it is 'other', and it is taken for 'unit'"),
        ("a", "'a' touches the border of the image"),
        ("a", "'a' reaches slice 0, the volume's first"),
    ]


def test_the_modality_is_what_the_series_tells(registry, series, tmp_path):
    manifest = segment_file(registry, ask(series, structures(tmp_path, A), f"contours={tmp_path}/a.toy", modality=None))
    assert manifest["modality"] == "unit (as the image's file tells)"


def test_settings_of_the_image_reach_reader_and_exporter(registry, series, tmp_path):
    asked, out = structures(tmp_path, A), f"contours={tmp_path}/a.toy"
    segment_file(registry, ask(series, asked, out, image_settings={"series": "3"}))
    with pytest.raises(OncoSegError, match="has no series 4"):
        segment_file(registry, ask(series, asked, out, image_settings={"series": "4"}, overwrite=True))
    with pytest.raises(OncoSegError, match="settings of exporter 'contours': unknown key 'serie'"):
        segment_file(registry, ask(series, asked, out, image_settings={"serie": "4"}, overwrite=True))
    with pytest.raises(OncoSegError, match="settings of reader 'toy': unknown key 'serie'"):
        segment_file(registry, ask(series, asked, f"{tmp_path}/b.nrrd", image_settings={"serie": "4"}))
    with pytest.raises(StorageError, match="it is broken"):
        segment_file(registry, ask(series, asked, out, export_settings={"contours": {"broken": True}}, overwrite=True))


@pytest.fixture
def no_model(monkeypatch):
    """Building a model is a failure of the test."""

    def build(*_):
        raise AssertionError("a model was built")

    monkeypatch.setattr("oncoseg_segment.engine.loaded_model.build_model", build)


@pytest.mark.usefixtures("no_model")
def test_what_a_format_cannot_hold_is_refused_before_the_model_works(registry, series, image, tmp_path):
    asked = structures(tmp_path, {**A, "name": "a name of more than twenty characters"})
    with pytest.raises(OncoSegError, match="'a name of more than twenty characters' is too long a name"):
        segment_file(registry, ask(series, asked, f"contours={tmp_path}/out/a.toy"))
    uneven = toy_series.write_series(
        tmp_path / "uneven",
        read_volume(image, "unit").voxels[0],
        origins=[[-20.0, -30.0, 100.0 + 2.5 * index + (index > 4)] for index in range(8)],
    )
    with pytest.raises(OncoSegError, match=r"cannot write .*not evenly spaced, which this format cannot say"):
        segment_file(registry, ask(uneven, structures(tmp_path, A), f"{tmp_path}/out/b.nrrd"))
    assert not (tmp_path / "out").exists()


def test_the_manifest(registry, image, tmp_path):
    asked = structures(tmp_path, A)
    output = tmp_path / "out" / "mask.nrrd"
    manifest = segment_file(registry, ask(image, asked, str(output), model_settings={"weights": "abc"}))
    assert manifest["outcome"] == "written"
    ((written,),) = (one["files"] for one in manifest["outputs"])
    assert written == {"file": "mask.nrrd", "sha256": hashlib.sha256(output.read_bytes()).hexdigest()}
    volume = read_volume(image, "unit")
    assert manifest["image"] == {
        "kind": "nrrd file, 8 slices",
        "content hash": content_hash(volume.voxels, volume.geometry),
        "shape z y x": [8, 128, 128],
        "channels": 1,
        "spacing z y x mm": [2.5, 0.5, 0.5],
        "evenly spaced and upright": True,
    }
    assert manifest["model"]["name"] == "brighter"
    assert (manifest["model"]["weights"], manifest["model"]["adapter"]) == ("abc", None)
    licence = {"code": "Free", "weights": "Free too", "bars": "", "non_commercial": False}
    assert manifest["model"]["licence"] == licence
    assert manifest["model"]["settings"] == ["weights=abc"]
    assert manifest["model"]["path"]["fit"] == "letterbox"
    assert set(manifest["seconds"]) == {"read", "model", "segment", "judge", "export", "preview"}
    assert manifest["peak memory MB"] > 10
    assert manifest["software"]["libraries"]["numpy"] == np.__version__
    (one,) = manifest["structures"]
    assert one["prompt"] == {
        "as given": {
            "units": "voxel", "text": None, "slice": None, "slices": None, "propagate": False,
            "hints": [{"kind": "box", "positive": True, "numbers": [38, 28, 3, 50, 52, 5]}],
        },
        "in voxels": [{"slices": "3 to 5", "hints": [{"kind": "box", "x0 y0 x1 y1": [38, 28, 50, 52], "positive": True}]}],
    }  # fmt: skip
    assert one["measurements"]["volume_ml"] == pytest.approx(600 * 0.625 / 1000)
    assert one["measurements"]["diameters"]["longest"]["mm"] == pytest.approx(np.hypot(10, 5))
    assert (one["measurements"]["intensities"][0]["unit"], one["measurements"]["intensities"][0]["mean"]) == (
        "as stored",
        1.0,
    )


def test_the_same_prompt_in_millimetres_is_the_same_mask(registry, image, tmp_path):
    """Edges of voxels: pixel p begins at p * 0.5 - 0.25 mm."""
    box = [38 * 0.5 - 0.25, 28 * 0.5 - 0.25, 7.5, 50 * 0.5 - 0.25, 52 * 0.5 - 0.25, 12.5]
    masks = []
    for number, asked in enumerate(
        (structures(tmp_path, A), structures(tmp_path, {"name": "a", "box": box}, units="mm"))
    ):
        segment_file(registry, ask(image, asked, f"{tmp_path}/{number}.nrrd"))
        masks.append(read_volume(tmp_path / f"{number}.nrrd", "label").voxels)
    assert np.array_equal(*masks)


def test_no_path_of_a_series_is_told_unless_asked_for(registry, series, tmp_path):
    asked = structures(tmp_path, A)
    out = f"contours={tmp_path}/1.2.840.999.4.5.6.toy"
    manifest = segment_file(registry, ask(series, asked, out))
    assert manifest["image"]["kind"] == "TOY series, 8 slices"
    assert "1.2.840" not in json.dumps(manifest)
    assert str(tmp_path) not in json.dumps(manifest)
    named = segment_file(registry, ask(series, asked, out, identify=True, overwrite=True))
    assert named["image"]["path"] == str(series)
    with pytest.raises(OncoSegError, match="slice 9 does not exist: the image has slices 0 to 7"):
        segment_file(
            registry, ask(series, [PromptOptions(boxes=["1,1,9,9"], slice_index=9).structure()], f"{tmp_path}/n.nrrd")
        )


def test_a_files_name_is_not_told_either(registry, image, tmp_path):
    named = image.rename(tmp_path / "Muster.Erika.nrrd")
    manifest = segment_file(registry, ask(named, structures(tmp_path, A), f"{tmp_path}/mask.nrrd"))
    assert manifest["image"]["kind"] == "nrrd file, 8 slices"
    assert "Erika" not in json.dumps(manifest)


def test_a_series_is_not_named_by_its_folder(registry, series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segment_file(registry, ask(series, structures(tmp_path, A)))
    assert {path.name for path in tmp_path.glob("series_mask*")} == {
        "series_mask.nii.gz",
        "series_mask.json",
        "series_mask.png",
    }


@pytest.mark.parametrize("name", ["mask.nrrd", "mask.json", "mask.png"])
def test_manifest_and_preview_do_not_replace_older_files_either(registry, image, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("older")
    request = ask(image, structures(tmp_path, A), f"{out}/mask.nrrd")
    with pytest.raises(UsageError, match=f"{name} exists; give another name, or `overwrite`"):
        segment_file(registry, request)
    assert [path.name for path in out.iterdir()] == [name]
    segment_file(registry, replace(request, overwrite=True))
    assert (out / name).read_bytes() != b"older"


def test_neither_image_nor_prompts_are_ever_replaced(registry, image, tmp_path):
    asked = structures(tmp_path, A)
    for output, inputs in ((image, []), (tmp_path / "asked.nrrd", [tmp_path / "asked.json"])):
        with pytest.raises(UsageError, match="is the image itself, or another file that is read"):
            segment_file(registry, ask(image, asked, str(output), inputs=inputs, overwrite=True))


def test_without_matplotlib_there_is_a_note(registry, image, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    manifest = segment_file(registry, ask(image, structures(tmp_path, A), f"{tmp_path}/out/mask.nrrd", strict=True))
    assert manifest["preview"] is None
    assert [one["level"] for one in manifest["findings"]] == ["note"]
    assert "pip install 'oncoseg-core[pictures]'" in manifest["findings"][0]["message"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mask.nrrd", "mask.json"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([A, A], "two structures are called 'a'"),
        ([A, {"name": "b", "exemplars": [[3, 3, 9, 9]]}], "takes prompts of kind box, text, point, not 'exemplar'"),
        ([A, {"name": "b", "box": [1, 1, 9, 9]}], "structure 'b': .*has 8 slices; say on which one"),
        ([A, {"name": "b", "text": "x", "slices": "all", "propagate": True}], "structure 'b': `propagate` starts from one slice"),
    ],
)  # fmt: skip
def test_of_several_structures_the_wrong_one_is_named(registry, image, tmp_path, asked, message):
    with pytest.raises(OncoSegError, match=message):
        segment_file(registry, ask(image, structures(tmp_path, *asked), f"{tmp_path}/out/mask.nrrd"))
    assert not (tmp_path / "out").exists()
    assert "brighter" not in registry.built
