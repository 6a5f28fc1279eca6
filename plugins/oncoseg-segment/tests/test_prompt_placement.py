"""From what was asked for to pixels on slices, in voxels and in LPS millimetres, on any grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core import Box, Exemplar, Geometry, Lasso, OncoSegError, Point, Scribble, Text, Volume
from oncoseg_segment.cli.prompt_options import PromptOptions
from oncoseg_segment.prompts.placement import place

AXIAL = Geometry.from_parts((8, 60, 50), (5.0, 0.5, 0.8), origin=(-20.0, -30.0, 100.0))


def volume(geometry=AXIAL, **more):
    return Volume(np.zeros((1, *geometry.shape), dtype=np.uint8), geometry, "ct", **more)


def placed(geometry=AXIAL, **options):
    return place(PromptOptions(**options).structure(), volume(geometry)).prompts


def test_a_box_in_three_dimensions_is_the_same_box_on_its_slices_both_included():
    assert placed(boxes=["10,20,2,14.5,25,4"]) == dict.fromkeys((2, 3, 4), (Box(10, 20, 14.5, 25),))
    assert placed(boxes=["10,20,7,14,25,7"]) == {7: (Box(10, 20, 14, 25),)}


def test_points_with_z_are_each_on_their_slice_and_a_text_on_all_of_these():
    found = placed(points=["5,6,1", "7,8,3"], negative_points=["9,9,3"], texts=["tumour"])
    assert found == {
        1: (Point(5, 6), Text("tumour")),
        3: (Point(7, 8), Point(9, 9, positive=False), Text("tumour")),
    }


def test_hints_without_z_count_on_every_slice_of_those_with():
    assert placed(boxes=["1,1,2,9,9,3"], points=["5,5"]) == dict.fromkeys((2, 3), (Point(5, 5), Box(1, 1, 9, 9)))


def test_exemplars_have_a_z_too():
    assert placed(exemplars=["1,2,4,5,6,4"], negative_exemplars=["9,9,4,12,12,4"]) == {
        4: (Exemplar(1, 2, 5, 6), Exemplar(9, 9, 12, 12, positive=False))
    }


def test_millimetres_are_where_the_grid_says():
    """Voxel (x 10, y 20, z 3) is centred at x -20 + 10*.8, y -30 + 20*.5, z 100 + 3*5."""
    assert placed(points=["-12,-20,115"], units="mm") == {3: (Point(10.5, 20.5),)}
    box = placed(boxes=["-12.4,-20.25,110,-8.4,-10.25,120"], units="mm")
    assert list(box) == [2, 3, 4]
    for (one,) in box.values():
        np.testing.assert_allclose(one.as_tuple(), (10, 20, 15, 40))


def test_scribbles_and_a_lasso_are_on_the_slice_that_is_chosen_or_that_they_say():
    lines = {"scribbles": ["5,6,7,8"], "negative_scribbles": ["1,2,3,4,5,9"], "lassos": ["1,1,9,1,9,9"]}
    expected = (
        Scribble(((5, 6), (7, 8))),
        Scribble(((1, 2), (3, 4), (5, 9)), positive=False),
        Lasso(((1, 1), (9, 1), (9, 9))),
    )
    assert placed(**lines, slice_index=4) == {4: expected}
    assert placed(**{name: [f"{one}@4" for one in values] for name, values in lines.items()}) == {4: expected}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["scribbles", "lassos"]))
def test_a_line_in_millimetres_is_where_its_points_are_on_any_grid(seed, kind):
    """Mirrored, turned by any angles and drawn a little off the slice's plane."""
    rng = np.random.default_rng(seed)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    geometry = Geometry.from_parts((9, 20, 20), (3.0, 1.0, 1.3), direction, tuple(rng.uniform(-50, 50, 3)))
    pixels, index = np.array([(1, 2), (15, 4), (12, 18)]) + rng.random((3, 2)), int(rng.integers(9))
    points = geometry.index_to_lps([(x - 0.5, y - 0.5, index) for x, y in pixels])
    points = points + rng.uniform(-1.4, 1.4, (3, 1)) * geometry.normal
    text = ",".join(f"{value:.9f}" for value in points.flat)
    ((at, (line,)),) = placed(geometry, units="mm", **{kind: [text]}).items()
    assert at == index
    np.testing.assert_allclose(line.points, pixels, atol=1e-6)


def test_a_flat_box_is_on_the_slice_in_its_plane_or_the_nearest():
    assert list(placed(boxes=["-12,-20,115,-8,-10,115"], units="mm")) == [3]
    assert list(placed(boxes=["-12,-20,112,-8,-10,112.1"], units="mm")) == [2]
    assert list(placed(boxes=["-12,-20,97.6,-8,-10,97.6"], units="mm")) == [0]


def test_every_slice_whose_plane_passes_through_the_box_of_an_uneven_tilted_stack():
    origins = np.array([(0.0, 0.3 * z, z) for z in (0.0, 2.0, 3.0, 7.0, 12.0)])
    geometry = Geometry.from_slices((40, 40), (1, 0, 0), (0, 1, 0), origins)
    found = placed(geometry, boxes=["4.5,9.5,2.5,9.5,19.5,11"], units="mm")
    assert list(found) == [2, 3]
    for index, (box,) in found.items():  # each slice's own shift of y
        shift = origins[index, 1]
        np.testing.assert_allclose(box.as_tuple(), (5, 10 - shift, 10, 20 - shift))
    ((point,),) = placed(geometry, points=["4,12.1,7.2"], units="mm").values()
    assert (point.x, point.y) == pytest.approx((4.5, 12.1 - 2.1 + 0.5))  # straight onto slice 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_on_any_grid_a_box_holds_just_the_voxels_whose_centres_lie_in_it(seed):
    """Turned by any angles: the section's rectangle holds all of them, and slices without any are only grazed."""
    rng = np.random.default_rng(seed)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    geometry = Geometry.from_parts((9, 20, 20), (3.0, 1.0, 1.3), direction, tuple(rng.uniform(-50, 50, 3)))
    centre = geometry.index_to_lps([rng.uniform((6, 6, 2), (13, 13, 6))])[0]
    half = rng.uniform(1.5, 3.4, 3)
    low, high = centre - half, centre + half
    text = ",".join(f"{value:.9f}" for value in (*low, *high))
    found = placed(geometry, boxes=[text], units="mm")
    z, y, x = np.indices(geometry.shape).reshape(3, -1)
    places = geometry.index_to_lps(np.column_stack([x, y, z]))
    inside = np.all((places > low) & (places < high), axis=1)
    for column, row, index in zip(x[inside], y[inside], z[inside], strict=True):
        (box,) = found[int(index)]
        assert box.x0 <= column + 0.5 <= box.x1
        assert box.y0 <= row + 0.5 <= box.y1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": ["1,2,3,4,5"]}, "--box 1,2,3,4,5: expected four numbers x0,y0,x1,y1 in pixels, such as 120,200,180,260, or six"),
        ({"boxes": ["1,1,2.5,9,9,4"]}, "expected six x0,y0,z0,x1,y1,z1 with z0 and z1 indices of slices, both included"),
        ({"boxes": ["1,1,4,9,9,2"]}, "both included, in order"),
        ({"boxes": ["1,1,nan,9,9,2"]}, "both included, in order"),
        ({"boxes": ["1,1,0,9,9,inf"]}, "both included, in order"),
        ({"boxes": ["nan,1,9,9"], "slice_index": 1}, "not finite"),
        ({"boxes": ["9,1,2,1,9,4"]}, "has no area"),
        ({"boxes": ["1,1,2,9,9,8"]}, "slice 8 does not exist: the image has slices 0 to 7"),
        ({"boxes": ["1,1,0,9,9,1000000000"]}, "slice 1000000000 does not exist"),
        ({"points": ["1,1,-1"]}, "slice -1 does not exist"),
        ({"boxes": ["1,1,2,9,9,4"], "slice_index": 3}, "coordinates with a z say which slices are meant; leave `slice_index`"),
        ({"boxes": ["1,1,2,9,9,4"], "slices": "all"}, "coordinates with a z"),
        ({"boxes": ["1,1,2,9,9,4"], "points": ["3,3,6"]}, "a hint on slice 6 lies outside the box, which is on 2 to 4"),
        ({"boxes": ["1,1,2,9,9,4"], "propagate": True}, "`propagate` starts from one slice"),
        ({"negative_points": ["1,1"], "slice_index": 0}, "on slice 0 all hints say what is not meant"),
        ({"points": ["1,1,2"], "negative_points": ["1,1,3"]}, "on slice 3 all hints say what is not meant"),
        ({"boxes": ["1,1,9,9"], "units": "mm"}, "--box 1,1,9,9: expected six numbers x0,y0,z0,x1,y1,z1 in LPS mm"),
        ({"points": ["1,1"], "units": "mm"}, "expected three numbers x,y,z in LPS mm"),
        ({"boxes": ["1,1,9,0,9,9"], "units": "mm"}, "each second corner no smaller"),
        ({"boxes": ["-12,-20,200,-8,-10,210"], "units": "mm"}, "lies 67.5 mm beyond the volume's slices, which reach over 35 mm"),
        ({"points": ["-12,-20,97"], "units": "mm"}, "lies 0.5 mm beyond"),
        ({"boxes": ["500,-20,110,510,-10,120"], "units": "mm"}, "lies outside the slice"),
        ({"boxes": ["-12,-20,110,-12,-10,120"], "units": "mm"}, "has no area on any slice"),
        ({"texts": ["a"], "target": " "}, "a structure needs a name"),
        ({"scribbles": ["1,2,3"], "slice_index": 0}, "--scribble 1,2,3: expected points x,y,x,y,... in pixels, at least 2, or points of one"),
        ({"scribbles": ["1,2,3,4@2.5"]}, "expected points of one slice, with its index z, in order"),
        ({"scribbles": ["1,2,3,4@x"]}, "--scribble 1,2,3,4@x: expected points"),
        ({"scribbles": ["1,2,3,4@9"]}, "slice 9 does not exist"),
        ({"scribbles": ["1,2,3,4@2"], "units": "mm"}, "expected points x,y,z,x,y,z,... in LPS mm, at least 2"),
        ({"scribbles": ["-12,-20,115,-10,-20,120"], "units": "mm"}, "--scribble -12,-20,115,-10,-20,120: is on slices 3 to 4; give points of one"),
        ({"negative_scribbles": ["1,2,3,4@2"]}, "on slice 2 all hints say what is not meant"),
        ({"lassos": ["1,1,9,9"], "slice_index": 0}, "in pixels, at least 3"),
        ({"lassos": ["1,1,5,5,9,9"], "slice_index": 0}, "encloses no area"),
        ({"lassos": ["1,1,5,5,51,9@0"]}, "lies outside the slice, which is 50 pixels wide and 60 high"),
        ({"lassos": ["1,1,5,5,9,1", "1,1,5,5,9,1"], "slice_index": 0}, "--lasso is given 2 times: a structure has one"),
        ({"lassos": ["1,1,5,5,9,1@3"], "boxes": ["1,1,2,9,9,2"]}, "a hint on slice 3 lies outside the box"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(options, message):
    with pytest.raises(OncoSegError, match=message.replace("(", r"\(")) as error:
        placed(**options)
    assert "\n" not in str(error.value)


def test_a_picture_has_no_millimetres():
    structure = PromptOptions(points=["1,1,1"], units="mm").structure()
    with pytest.raises(OncoSegError, match="its format tells no millimetres"):
        place(structure, volume(physical=False))
