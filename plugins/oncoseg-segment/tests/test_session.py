"""The engine in memory: the same masks by every door, no slice encoded twice, undo of any depth, and a clean stop."""

import gc
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
from toy_engine import Brighter, image_file, registry_of

from oncoseg_core import OncoSegError, PromptError, UsageError
from oncoseg_core.imaging import read_image
from oncoseg_segment import api
from oncoseg_segment.files.run import SegmentRequest, segment_file

SETTINGS = api.SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)


@pytest.fixture
def registry():
    return registry_of()


@pytest.fixture
def image(tmp_path):
    return image_file(tmp_path)


@pytest.fixture
def volume(registry, image):
    """No two slices alike: equal ones would share an embedding."""
    volume = read_image(registry, image)
    return replace(volume, voxels=volume.voxels * (1 - np.arange(8, dtype=np.float32)[:, None, None] / 100))


def box(name, *numbers, **more):
    return api.StructureRequest(name, (api.Hint("box", numbers),), **more)


A = box("a", 38, 28, 50, 52, slice_index=3)
B = box("b", 44, 28, 3, 62, 52, 5)
FOLLOWED = box("followed", 38, 28, 62, 52, slice_index=3, propagate=True)


@pytest.fixture
def session(registry, volume):
    with api.Session(volume, SETTINGS, registry=registry) as session:
        yield session


def encoded(work):
    before = Brighter.encoded
    work()
    return Brighter.encoded - before


@pytest.mark.parametrize("zoom", [None, api.ZoomSettings(), api.ZoomSettings(when="always")])
def test_the_command_the_call_and_the_session_give_the_same_masks(registry, image, tmp_path, zoom):
    settings = SETTINGS.model_copy(update={"zoom": zoom, "overlaps": "first"})
    structures = (A, B, FOLLOWED)
    segment_file(
        registry,
        SegmentRequest(image=image, structures=structures, settings=settings, outputs=[f"{tmp_path}/out.nrrd"]),
    )
    written = read_image(registry, tmp_path / "out.nrrd").voxels[0]
    options = settings.model_dump(exclude={"model"})
    volume = read_image(registry, image)
    called = api.segment(volume, structures, registry=registry, model="brighter", **options)
    with api.Session(volume, settings, registry=registry) as session:
        for structure in structures:
            result = session.prompt(structure)
    for number, one in enumerate(structures, start=1):
        mask = called.masks[one.name] if one.name in called.masks else np.zeros_like(written, dtype=bool)
        assert np.array_equal(written == number, mask)
        assert np.array_equal(mask, result.masks.get(one.name, np.zeros_like(mask)))
        assert called.scores[one.name] == result.scores[one.name]


def test_a_second_prompt_on_a_slice_does_not_encode_it_again(session):
    assert encoded(lambda: session.encode([2, 3])) == 2
    assert encoded(lambda: session.prompt(A)) == 0
    assert encoded(lambda: session.prompt(B)) == 2  # slices 4 and 5
    assert encoded(lambda: session.prompt(box("a", 40, 30, 60, 50, slice_index=4))) == 0
    assert encoded(session.undo) == 0


def test_undo_and_redo_at_any_depth_give_the_masks_of_that_step(session):
    seen = []
    for step in range(12):
        session.prompt(box("a", 38 + step, 28, 50 + step, 52, slice_index=3))
        seen.append(session.result().masks["a"])
    for mask in reversed(seen[:-1]):
        assert session.undo()
        assert np.array_equal(session.result().masks["a"], mask)
    assert session.undo()
    assert not session.undo()
    with pytest.raises(PromptError, match="no prompt was given"):
        session.result()
    for mask in seen:
        assert session.redo()
        assert np.array_equal(session.result().masks["a"], mask)
    assert not session.redo()
    session.undo()
    session.prompt(B)
    assert not session.redo()  # another way was taken
    assert [one.name for one in session.structures] == ["a", "b"]


def test_the_list_of_structures_is_the_whole_state(session, registry, volume):
    session.prompt(A)
    result = session.prompt(B, FOLLOWED)
    with api.Session(volume, SETTINGS, registry=registry) as other:
        again = other.prompt(*session.structures)
    assert {name: mask.tobytes() for name, mask in result.masks.items()} == {
        name: mask.tobytes() for name, mask in again.masks.items()
    }


def test_a_stop_between_slices_leaves_the_session_as_it_was(session):
    before = session.prompt(A).masks["a"]
    slices = []
    with pytest.raises(api.SegmentationCancelledError, match="stopped after slices 2 of 3"):
        session.prompt(B, progress=lambda *at: slices.append(at), should_stop=lambda: len(slices) == 2)
    assert slices == [("slices", 1, 3), ("slices", 2, 3)]
    assert session.structures == (A,)
    assert np.array_equal(session.result().masks["a"], before)
    with pytest.raises(api.SegmentationCancelledError):
        session.prompt(FOLLOWED, should_stop=lambda: True)
    assert session.structures == (A,)


def test_a_stop_writes_nothing_and_frees_the_memory(registry, image, tmp_path, monkeypatch):
    models = []
    build = registry.build
    monkeypatch.setattr(
        registry, "build", lambda *given, **more: models.append(weakref.ref(built := build(*given, **more))) or built
    )
    request = SegmentRequest(image=image, structures=(B,), settings=SETTINGS, outputs=[f"{tmp_path}/out/mask.nrrd"])
    with pytest.raises(api.SegmentationCancelledError):
        segment_file(registry, request, should_stop=lambda: True)
    assert not (tmp_path / "out").exists()
    gc.collect()
    assert [model() for model in models] == [None] * len(models)


def test_what_a_result_knows(session):
    found = session.prompt(box("a", 38, 28, 62, 52, slice_index=3))
    assert (found.scores, found.presence, found.instances) == ({"a": pytest.approx(0.8)}, {"a": None}, {"a": None})
    assert found.measurements["a"] == session.measure("a")
    assert found.measurements["a"].voxels == 400
    assert found.provenance["weights"] == "abc"
    assert found.modality == ("unit", "as given")
    assert {"model", "segment", "judge"} <= set(found.seconds)
    text = session.prompt(api.StructureRequest("t", text="tumour", slice_index=3))
    assert (text.presence["t"], text.instances["t"]) == (pytest.approx(0.9), 1)


def test_export_writes_all_or_nothing(session, registry, tmp_path):
    result = session.prompt(A)
    (written,) = api.export(result, [f"{tmp_path}/a.nrrd"])
    mask = read_image(registry, written.files[0]).voxels[0]
    assert np.array_equal(mask > 0, result.masks["a"])
    with pytest.raises(UsageError, match=r"a.nrrd exists; give another name, or `overwrite`"):
        api.export(result, [f"{tmp_path}/b.nrrd", f"{tmp_path}/a.nrrd"])
    assert not (tmp_path / "b.nrrd").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoom": {"contxt": 3}}, r"settings: unknown key 'zoom.contxt'|contxt"),
        ({"overlaps": "all"}, "overlaps"),
        ({"devise": "cpu"}, "devise"),
        ({"modality": "units"}, "units"),
        ({"model": "nosuch"}, "nosuch"),
    ],
)
def test_errors_of_settings_name_the_field(registry, volume, settings, message):
    with pytest.raises(OncoSegError, match=message) as error:
        api.segment(volume, [A], **{"model": "brighter", "modality": "unit", "registry": registry, **settings})
    assert "--" not in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_of_prompts_name_the_field(session):
    for request, field in (
        (lambda: box("a", 1, 1, 5, 5), "slice_index"),
        (lambda: box("a", 1, 1, 5, 5, slice_index=3, slices="1:2"), "slices"),
    ):
        with pytest.raises(OncoSegError, match=f"`{field}`") as error:
            session.prompt(request())
        assert "--" not in str(error.value)
    assert session.structures == ()


def test_a_setting_is_checked_by_its_type():
    with pytest.raises(ValueError, match="minimum_score"):
        api.SegmentSettings(model="m", minimum_score="high")


def test_without_an_adapter_no_library_for_adapters_is_loaded():
    """PEFT brings transformers: 110 MB of memory, and seconds."""
    code = "import sys, oncoseg_segment.api, oncoseg_segment.engine.resolve; print('peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
