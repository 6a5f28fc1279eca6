"""Steps of a session in a viewer: hints slice by slice, drawn masks, following from several slices, shared models."""

import math
import threading
import time

import numpy as np
import pytest
import torch
from toy_engine import Brighter, image_file, registry_of

from oncoseg_core import Decoded, OncoSegError, PromptError, SliceTracker
from oncoseg_core.imaging import read_image
from oncoseg_segment import api
from oncoseg_segment.engine import postprocess
from oncoseg_segment.engine.checks import Finding

SETTINGS = api.SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)


@pytest.fixture
def registry():
    return registry_of()


@pytest.fixture
def volume(registry, tmp_path):
    """A bright block on slices 2 to 5; no two slices alike."""
    volume = read_image(registry, image_file(tmp_path))
    volume.voxels[...] *= 1 - np.arange(8, dtype=np.float32)[:, None, None] / 100
    return volume


@pytest.fixture
def session(registry, volume):
    with api.Session(volume, SETTINGS, registry=registry) as session:
        yield session


def on(index, kind, *numbers, name="a", positive=True):
    return api.StructureRequest(name, (api.Hint(kind, numbers, positive),), slice_index=index)


BOX = (38.0, 28.0, 50.0, 52.0)
OTHER = (40.0, 30.0, 48.0, 50.0)


def masks(result):
    return {name: mask.copy() for name, mask in result.masks.items()}


def test_a_structure_has_a_box_on_each_of_several_slices(registry, volume, session):
    session.add(on(3, "box", *BOX))
    result = session.add(on(4, "box", *OTHER))
    for index, box in ((3, BOX), (4, OTHER)):
        alone = api.segment(volume, [on(index, "box", *box)], registry=registry, **dict(SETTINGS))
        np.testing.assert_array_equal(result.masks["a"][index], alone.masks["a"][index])
        assert alone.masks["a"][index].any()
    assert np.flatnonzero(result.masks["a"].any(axis=(1, 2))).tolist() == [3, 4]


def test_a_further_slice_does_not_decode_the_others_again(session):
    session.add(on(3, "box", *BOX))
    before = Brighter.encoded
    session.add(on(4, "box", *OTHER))
    assert Brighter.encoded == before + 1
    session.undo()
    session.redo()
    session.result()
    assert Brighter.encoded == before + 1


def test_hints_are_added_or_replaced_on_their_slice_alone(session):
    session.add(on(3, "box", *BOX))
    with pytest.raises(PromptError, match="slice 3 has several boxes"):
        session.add(on(3, "box", *OTHER))
    assert len(session.structures) == 1
    session.add(on(4, "box", *BOX))
    session.add(on(3, "box", *OTHER), replaced=True)
    (structure,) = session.structures
    assert [one.prompt[0].as_tuple() for one in structure.placed] == [OTHER, BOX]


def test_a_drawn_mask_stands_is_measured_and_gives_way_to_a_prompt(session, volume):
    session.add(on(3, "box", *BOX))
    drawn = np.zeros(volume.geometry.shape[1:], dtype=bool)
    drawn[5:9, 6:16] = True
    result = session.draw("a", {3: drawn})
    np.testing.assert_array_equal(result.masks["a"][3], drawn)
    assert result.measurements["a"].voxels == 40
    assert math.isnan(result.scores["a"])
    segmentation = result.segmentation()
    assert "a" not in segmentation.scores
    assert segmentation.provenance["drawn by hand"] == "parts of a"
    again = session.add(on(3, "box", *OTHER))  # this model takes no masks
    assert not again.masks["a"][3, 5:9, 6:16].any()
    session.undo()
    np.testing.assert_array_equal(session.result().masks["a"][3], drawn)


def test_a_drawn_mask_of_another_size_is_refused(session):
    with pytest.raises(PromptError, match="the mask drawn on slice 3 is 7 x 9 pixels; the image is"):
        session.draw("a", {3: np.ones((9, 7), dtype=bool)})
    assert session.structures == ()


def test_a_structure_is_followed_from_all_its_slices_and_they_keep_their_masks(session, volume):
    session.add(on(2, "box", *BOX))
    drawn = np.zeros(volume.geometry.shape[1:], dtype=bool)
    drawn[30:40, 40:48] = True
    session.draw("a", {5: drawn})
    result = session.propagate("a")
    np.testing.assert_array_equal(result.masks["a"][5], drawn)
    assert result.masks["a"][2:6].any(axis=(1, 2)).all()
    found = {one.index: one.score for one in result.structures[0].result.found}
    assert math.isnan(found[5])
    assert not math.isnan(found[2])


def test_a_correction_after_following_changes_its_slice_alone(session):
    session.add(on(3, "box", *BOX))
    followed = masks(session.propagate("a"))["a"]
    held = np.flatnonzero(followed.any(axis=(1, 2)))
    assert len(held) > 2
    other = int(held[-1])
    corrected = session.add(on(other, "box", *OTHER)).masks["a"]
    untouched = [index for index in range(len(followed)) if index != other]
    np.testing.assert_array_equal(corrected[untouched], followed[untouched])
    assert not np.array_equal(corrected[other], followed[other])
    session.undo()
    np.testing.assert_array_equal(session.result().masks["a"], followed)
    session.undo()
    assert np.flatnonzero(session.result().masks["a"].any(axis=(1, 2))).tolist() == [3]


class Everything(SliceTracker):
    """A tracker that finds all that is bright, also beyond the box."""

    def start(self, embedding, prompt):
        return Decoded(embedding - 0.5, torch.tensor([0.8]))

    def follow(self, embedding):
        return self.start(embedding, ())

    def rewind(self):
        pass


def test_what_the_models_own_tracker_found_stays_where_no_hint_is_new(registry, volume, monkeypatch):
    monkeypatch.setattr(Brighter, "slice_tracker", lambda _: Everything())
    settings = SETTINGS.model_copy(update={"propagation": api.PropagationSettings(tracker="own")})
    with api.Session(volume, settings, registry=registry) as session:
        session.add(on(3, "box", *BOX))
        followed = masks(session.propagate("a"))["a"]
        corrected = session.add(on(5, "box", *OTHER)).masks["a"]
        assert not np.array_equal(corrected[5], followed[5])
        np.testing.assert_array_equal(corrected[:5], followed[:5])
        again = session.add(on(3, "box", *OTHER), replaced=True).masks["a"]
        assert not np.array_equal(again[3], followed[3])


def test_a_structure_is_removed_and_comes_back(session):
    session.add(on(3, "box", *BOX))
    session.add(on(3, "box", *OTHER, name="b"))
    session.remove("a")
    assert list(session.result().masks) == ["b"]
    session.undo()
    assert list(session.result().masks) == ["a", "b"]
    with pytest.raises(PromptError, match="there is no structure 'c' yet"):
        session.remove("c")


def test_sessions_share_a_model_and_its_embeddings(registry, volume):
    encoded = Brighter.encoded
    opened = api.LoadedModel(SETTINGS, registry=registry).open(volume)
    one, other = api.Session.on(opened), api.Session.on(opened)
    first = one.add(on(3, "box", *BOX)).masks["a"]
    one.close()
    second = other.add(on(3, "box", *BOX, name="b")).masks["b"]
    np.testing.assert_array_equal(first, second)
    assert Brighter.encoded == encoded + 1


def test_threads_that_prompt_at_once_get_their_own_answers(registry, volume):
    opened = api.LoadedModel(SETTINGS, registry=registry).open(volume)
    boxes = [(38.0 - step, 28.0, 50.0, 52.0 - step) for step in range(6)]
    expected = [
        api.segment(volume, [on(3, "box", *box)], registry=registry, **dict(SETTINGS)).masks["a"] for box in boxes
    ]
    wrong = []

    def user(number):
        for _ in range(5):
            session = api.Session.on(opened)
            if not np.array_equal(session.add(on(3, "box", *boxes[number])).masks["a"], expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=user, args=(number,)) for number in range(len(boxes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_turns_are_given_in_the_order_of_asking():
    lock, order = api.DeviceLock(), []

    def worker(number):
        with lock:
            order.append(number)

    with lock:
        threads = []
        for number in range(5):
            threads.append(threading.Thread(target=worker, args=(number,)))
            threads[-1].start()
            while lock.waiting <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    assert lock.waiting == 0


def test_settings_that_do_not_fit_the_image_are_refused_before_the_model_is_loaded(registry, volume, monkeypatch):
    monkeypatch.setattr(
        "oncoseg_segment.engine.loaded_model.build_model", lambda *_: pytest.fail("the model was loaded")
    )
    unknown = api.SegmentSettings(model="brighter", model_settings={"weights": "abc"}, zoom=None)
    with pytest.raises(OncoSegError, match="its modality cannot be told"):
        api.Session(volume, unknown, registry=registry)


def test_what_is_to_be_said_of_the_followed_part_is_said_after_a_correction(session, monkeypatch):
    asked = []

    def examined(_model, kinds, name, *, tracked):
        asked.append((tuple(kinds), tracked))
        return [Finding("warning", name, f"about {kinds}")]

    monkeypatch.setattr("oncoseg_segment.engine.session.examine_answerer", examined)
    session.add(on(3, "box", *BOX))
    session.propagate("a")
    asked.clear()
    drawn = np.zeros(session.image.geometry.shape[1:], dtype=bool)
    result = session.draw("a", {3: drawn})
    assert asked == [(("box",), False), ((), False)]
    assert [one.message for one in result.findings if one.message.startswith("about")] == ["about ['box']", "about []"]


def test_deferred_steps_make_the_last_masks_alone(session, volume):
    drawn = np.zeros(volume.geometry.shape[1:], dtype=bool)
    drawn[5:9, 6:16] = True

    def steps(session):
        session.add(on(3, "box", *BOX))
        session.propagate("a")
        session.add(on(3, "box", *OTHER), replaced=True)
        session.draw("a", {4: drawn})
        session.draw("b", {0: drawn, 1: ~drawn})
        session.remove("b")

    steps(session)
    expected, states = session.result().masks, session.structures
    again = api.Session(volume, session.settings, registry=session.registry)
    before = Brighter.encoded
    with again.deferred():
        steps(again)
    assert Brighter.encoded == before
    assert again.structures == states
    np.testing.assert_array_equal(again.result().masks["a"], expected["a"])
    again.undo()
    session.undo()
    assert again.result().masks.keys() == {"a", "b"}
    np.testing.assert_array_equal(again.result().masks["b"], session.result().masks["b"])
    assert again.add(on(2, "box", *BOX)).masks["a"][2].any()  # no longer deferred


def test_a_step_measures_what_it_changed_alone(session, volume, monkeypatch):
    drawn = np.zeros(volume.geometry.shape[1:], dtype=bool)
    drawn[5:9, 6:16] = True
    measured, examined = [], []
    measure, examine = postprocess.measure, postprocess.examine_structure
    monkeypatch.setattr(postprocess, "measure", lambda *each: measured.append(1) or measure(*each))
    monkeypatch.setattr(postprocess, "examine_structure", lambda *each: examined.append(1) or examine(*each))
    session.draw("a", {3: drawn})
    session.draw("b", {4: drawn})
    assert (len(measured), len(examined)) == (2, 2)
    result = session.draw("b", {5: drawn})
    assert (len(measured), len(examined)) == (3, 3)
    assert [one.measurements.voxels for one in result.structures] == [40, 80]
    session.remove("a")
    (left,) = session.result().structures
    assert (left.number, left.measurements.voxels) == (1, 80)
    assert len(measured) == 3


def test_what_another_structure_takes_is_measured_anew(registry, volume):
    settings = SETTINGS.model_copy(update={"overlaps": "highest-score"})
    with api.Session(volume, settings, registry=registry) as session:
        whole = session.add(on(3, "box", *BOX)).measurements["a"].voxels
        drawn = np.zeros(volume.geometry.shape[1:], dtype=bool)
        drawn[30:35, 40:45] = True
        result = session.draw("b", {3: drawn})  # a hand goes before a score
        assert {name: one.voxels for name, one in result.measurements.items()} == {"a": whole - 25, "b": 25}
        session.undo()
        assert session.result().measurements["a"].voxels == whole
