"""Clicks on a toy model that takes boxes and texts, by every door, and on LiteMedSAM with a real scan."""

import pytest
from toy_engine import image_file, registry_of

from oncoseg_core import PromptError
from oncoseg_core.imaging import read_image
from oncoseg_segment import api
from oncoseg_segment.files.run import SegmentRequest, segment_file

SETTINGS = api.SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)
READ_AS = "a box that a search finds: the model answers for candidate boxes around the clicks, and one is chosen"


@pytest.fixture
def registry():
    return registry_of()


@pytest.fixture
def image(tmp_path):
    return image_file(tmp_path)


def clicked(*places, **more):
    return api.StructureRequest("a", tuple(api.Hint("point", place) for place in places), **more)


def test_a_session_answers_clicks_and_corrects_without_encoding_again(registry, image):
    with api.Session(read_image(registry, image), SETTINGS, registry=registry) as session:
        result = session.prompt(clicked((50, 40), slice_index=3))
        assert result.masks["a"][3, 30:50, 40:60].all()
        assert result.masks["a"].sum() == 400
        assert result.provenance["point read as"] == READ_AS
        seconds = session.seconds["segment"]
        negative = api.Hint("point", (58, 48), positive=False)
        request = api.StructureRequest("a", (api.Hint("point", (50, 40)), negative), slice_index=3)
        after = session.prompt(request).masks["a"]
        assert after[3, 40, 50]
        assert not after[3, 48, 58]
        assert session.seconds["segment"] > seconds
        assert session.undo()
        assert session.result().masks["a"].sum() == 400


def test_a_negative_click_is_a_step_of_its_own_where_a_positive_one_is(registry, image):
    negative = api.StructureRequest("a", (api.Hint("point", (58, 48), positive=False),), slice_index=3)
    with api.Session(read_image(registry, image), SETTINGS, registry=registry) as session:
        with pytest.raises(PromptError, match="on slice 3 all hints say what is not meant"):
            session.add(negative)
        assert session.structures == ()
        session.add(clicked((50, 40), slice_index=3))
        after = session.add(negative).masks["a"]
    assert after[3, 40, 50]
    assert not after[3, 48, 58]


def test_a_click_is_followed_through_the_volume(registry, image):
    with api.Session(read_image(registry, image), SETTINGS, registry=registry) as session:
        mask = session.prompt(clicked((50, 40), slice_index=3, propagate=True)).masks["a"]
    assert [int(slice_.sum()) for slice_ in mask] == [0, 0, 400, 400, 400, 400, 0, 0]


def test_the_manifest_says_what_the_click_became(registry, image, tmp_path):
    request = SegmentRequest(
        image=image,
        structures=(clicked((50, 40), slice_index=3),),
        settings=SETTINGS,
        outputs=[f"{tmp_path}/out.nrrd"],
    )
    manifest = segment_file(registry, request)
    (structure,) = manifest["structures"]
    assert structure["prompt"]["read as"] == {"point": READ_AS}
    assert structure["prompt"]["in voxels"][0]["hints"][0]["kind"] == "point"


def test_a_box_says_nothing_of_clicks(registry, image):
    with api.Session(read_image(registry, image), SETTINGS, registry=registry) as session:
        box = api.StructureRequest("a", (api.Hint("box", (38, 28, 62, 52)),), slice_index=3)
        assert "point read as" not in session.prompt(box).provenance
