"""What is doubted of a mask. The phantom is made: blocks in a box, where organs lie in a patient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from oncoseg_core import BoolArray, Geometry
from oncoseg_structures import Protocol, ProtocolStructure, examine_structures, measure_structures

SHAPE = (40, 50, 60)
SPACING = (5.0, 4.0, 4.0)
Masks = dict[str, BoolArray]

# z, y, x ranges: x grows to the patient's left, y to the back, z to the head.
BLOCKS = {
    "External": ((0, 40), (8, 44), (5, 55)),
    "SpinalCord": ((0, 40), (36, 38), (29, 31)),
    "Lung_L": ((18, 36), (14, 36), (34, 50)),
    "Lung_R": ((18, 36), (14, 36), (10, 26)),
    "Heart": ((18, 26), (14, 26), (26, 34)),
    "Liver": ((8, 18), (12, 36), (8, 30)),
    "Kidney_L": ((6, 14), (30, 36), (38, 44)),
    "Kidney_R": ((5, 13), (30, 36), (16, 22)),
    "Bladder": ((1, 5), (14, 22), (26, 34)),
}
PROTOCOL = Protocol(
    name="phantom",
    title="A phantom",
    structures=tuple(
        ProtocolStructure(
            name=name,
            colour=(number, 0, 0),
            interpreted_type="EXTERNAL" if name == "External" else "ORGAN",
            most_parts=None if name == "External" else 1,
            side={"_L": "left", "_R": "right"}.get(name[-2:]),
            volume_ml=(15, 60) if name.startswith("Kidney") else None,
        )
        for number, name in enumerate(BLOCKS)
    ),
)


def _block(ranges: tuple[tuple[int, int], ...]) -> BoolArray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


def _masks() -> Masks:
    return {name: _block(ranges) for name, ranges in BLOCKS.items()}


def _geometry() -> Geometry:
    return Geometry.from_parts(SHAPE, SPACING, origin=(-118.0, -90.0, 30.0))


def _kinds(masks: Masks, geometry: Geometry, voxels: npt.NDArray[np.int16] | None = None) -> dict[str, set[str]]:
    doubts = examine_structures(masks, geometry, PROTOCOL, voxels)
    return {name: {one.kind for one in each} for name, each in doubts.items() if each}


def _stored(masks: Masks, geometry: Geometry, order: tuple[int, ...], flips: tuple[int, ...]) -> tuple[Masks, Geometry]:
    """The same masks in the same places, with the array's axes in another order and direction."""
    affine = np.array(geometry.affine)
    for axis in flips:  # of the array (z, y, x)
        column = 2 - axis
        affine[:3, 3] += affine[:3, column] * (geometry.shape[axis] - 1)
        affine[:3, column] *= -1
    affine[:3, :3] = affine[:3, [2 - order[2], 2 - order[1], 2 - order[0]]]
    turned = {name: np.ascontiguousarray(np.flip(mask, flips).transpose(order)) for name, mask in masks.items()}
    return turned, Geometry(turned["Heart"].shape, affine)


STORED = [(order, flips) for order in itertools.permutations(range(3)) for flips in ((), (0,), (1, 2), (0, 1, 2))]


@pytest.mark.parametrize(("order", "flips"), STORED)
def test_a_plausible_patient_is_not_doubted_however_stored(order: tuple[int, ...], flips: tuple[int, ...]):
    masks, geometry = _stored(_masks(), _geometry(), order, flips)
    assert _kinds(masks, geometry) == {}


@pytest.mark.parametrize(("order", "flips"), STORED)
def test_swapped_kidneys_are_seen_however_stored(order: tuple[int, ...], flips: tuple[int, ...]):
    masks = _masks()
    masks["Kidney_L"], masks["Kidney_R"] = masks["Kidney_R"], masks["Kidney_L"]
    masks, geometry = _stored(masks, _geometry(), order, flips)
    assert _kinds(masks, geometry) == {"Kidney_L": {"side", "pair"}, "Kidney_R": {"side", "pair"}}
    for one in examine_structures(masks, geometry, PROTOCOL)["Kidney_L"]:
        assert one.plausibility == 0


def test_measures_do_not_depend_on_how_it_is_stored():
    expected = measure_structures(_masks(), _geometry(), PROTOCOL)
    assert expected["Kidney_L"].volume_ml == pytest.approx(8 * 6 * 6 * 0.08)
    assert expected["Kidney_L"].slices == (6, 13)
    assert expected["Kidney_L"].centre == pytest.approx((-118 + 4 * 40.5, -90 + 4 * 32.5, 30 + 5 * 9.5))
    for order, flips in STORED:
        masks, geometry = _stored(_masks(), _geometry(), order, flips)
        for name, one in measure_structures(masks, geometry, PROTOCOL).items():
            assert one.centre == pytest.approx(expected[name].centre), (name, order, flips)
            assert one.extent == pytest.approx(expected[name].extent)
            assert one.volume_ml == pytest.approx(expected[name].volume_ml)
            assert one.cut_off == expected[name].cut_off


def test_uneven_slices_count_as_thick_as_they_are():
    origins = [(0.0, 0.0, z) for z in (0.0, 1.0, 2.0, 6.0, 10.0)]
    geometry = Geometry.from_slices((6, 6), (2, 0, 0), (0, 2, 0), origins)
    mask = np.zeros((5, 6, 6), dtype=bool)
    mask[1:4, 2:4, 2:4] = True
    protocol = Protocol(name="one", title="One", structures=(ProtocolStructure(name="Heart", colour=(1, 2, 3)),))
    measured = measure_structures({"Heart": mask}, geometry, protocol)["Heart"]
    assert measured.volume_ml == pytest.approx(16 * (1.0 + 2.5 + 4.0) / 1000)
    assert measured.centre == pytest.approx((5, 5, (1 * 1.0 + 2 * 2.5 + 6 * 4.0) / 7.5))


def test_an_empty_one_is_nothing_else():
    masks = _masks() | {"Liver": np.zeros(SHAPE, dtype=bool)}
    assert _kinds(masks, _geometry()) == {"Liver": {"empty"}}
    assert examine_structures(masks, _geometry(), PROTOCOL)["Liver"][0].plausibility == 0


def test_too_small_too_large_and_cut_off():
    masks = _masks()
    masks["Kidney_L"] = _block(((8, 10), (32, 34), (40, 42)))
    assert _kinds(masks, _geometry())["Kidney_L"] == {"volume", "pair"}
    masks["Kidney_L"] = _block(((6, 16), (24, 36), (36, 46)))
    assert "volume" in _kinds(masks, _geometry())["Kidney_L"]
    masks["Kidney_L"] = _block(((0, 2), (30, 34), (38, 42)))  # only its upper pole is imaged
    kinds = _kinds(masks, _geometry())
    assert kinds == {"Kidney_L": {"cut off"}}
    assert examine_structures(masks, _geometry(), PROTOCOL)["Kidney_L"][0].plausibility == 1


def test_parts_join_over_corners_and_crumbs_do_not_count():
    masks = _masks()
    masks["Liver"][18:22, 36:40, 30:34] = True  # touches a corner of the block
    assert _kinds(masks, _geometry()) == {}
    masks["Liver"][20:24, 38:42, 12:20] = True
    assert _kinds(masks, _geometry()) == {"Liver": {"parts"}}
    masks = _masks()
    masks["Liver"][25, 40, 40] = True
    assert _kinds(masks, _geometry()) == {}


def test_a_structure_on_the_wrong_side_by_the_cord_the_contour_or_the_image():
    masks = {name: mask for name, mask in _masks().items() if name not in ("Kidney_R", "Lung_R", "Lung_L")}
    masks["Kidney_L"] = _masks()["Kidney_R"]
    assert _kinds(masks, _geometry()) == {"Kidney_L": {"side"}}
    del masks["SpinalCord"]
    assert _kinds(masks, _geometry()) == {"Kidney_L": {"side"}}
    body = masks.pop("External")
    assert _kinds(masks, _geometry()) == {}  # nothing says where the middle is
    voxels = np.where(body, 20, -1000).astype(np.int16)
    assert _kinds(masks, _geometry(), voxels) == {"Kidney_L": {"side"}}
    voxels[:, 10:40, 40:] = 20  # the field of view cuts the patient on one side
    assert _kinds(masks, _geometry(), voxels) == {}
    voxels[:, 10:40] = 20  # and on both
    assert _kinds(masks, _geometry(), voxels) == {"Kidney_L": {"side"}}
    masks["Kidney_L"] = _block(((6, 14), (30, 36), (20, 26)))  # 26 mm beyond: the image may lie as far to the side
    assert _kinds(masks, _geometry(), voxels) == {}


def test_a_little_beyond_the_cord_is_doubted_and_far_beyond_is_not_to_be():
    near = _masks() | {"Kidney_L": _block(((6, 14), (30, 36), (22, 28)))}
    del near["Kidney_R"]
    assert [one.plausibility for one in examine_structures(near, _geometry(), PROTOCOL)["Kidney_L"]] == [0.1]
    far = near | {"Kidney_L": _masks()["Kidney_R"]}
    assert [one.plausibility for one in examine_structures(far, _geometry(), PROTOCOL)["Kidney_L"]] == [0.0]


def test_a_contour_cut_by_the_field_of_view_says_no_middle():
    masks = {"External": _block(((0, 40), (8, 44), (20, 60))), "Kidney_L": _masks()["Kidney_R"]}
    assert "side" not in _kinds(masks, _geometry()).get("Kidney_L", set())


def test_a_pair_that_is_twice_the_same_and_one_much_smaller():
    masks = _masks()
    masks["Lung_L"] = masks["Lung_R"].copy()
    kinds = _kinds(masks, _geometry())
    assert "pair" in kinds["Lung_L"]
    assert "pair" in kinds["Lung_R"]
    masks = _masks()
    masks["Lung_L"] = _block(((18, 26), (14, 30), (34, 44)))
    assert _kinds(masks, _geometry()) == {"Lung_L": {"pair"}, "Lung_R": {"pair"}}


def test_where_structures_lie_to_one_another():
    masks = _masks() | {"Bladder": _block(((34, 38), (14, 22), (26, 34)))}
    assert _kinds(masks, _geometry()) == {"Heart": {"position"}, "Bladder": {"position"}, "Liver": {"position"}}
    masks = _masks() | {"SpinalCord": _block(((0, 40), (10, 12), (29, 31)))}
    assert _kinds(masks, _geometry()) == {"Heart": {"position"}, "SpinalCord": {"position"}}
    masks = _masks() | {"Heart": _block(((18, 26), (14, 26), (48, 54)))}
    assert _kinds(masks, _geometry()) == {"Heart": {"position"}}


def test_two_that_are_one():
    masks = _masks() | {"Bladder": _masks()["Heart"]}
    assert "overlap" in _kinds(masks, _geometry())["Heart"]
    assert "overlap" in _kinds(masks, _geometry())["Bladder"]
    doubt = next(one for one in examine_structures(masks, _geometry(), PROTOCOL)["Heart"] if one.kind == "overlap")
    assert (doubt.message, doubt.plausibility) == ("it and Bladder share 100% of their voxels", 0.05)
    masks = _masks()
    masks["Liver"] |= _block(((18, 26), (14, 18), (26, 34)))  # some of the heart
    assert "overlap" not in _kinds(masks, _geometry()).get("Heart", set())


def test_what_encloses_another_may_have_its_voxels():
    canal = ProtocolStructure(name="SpinalCanal", colour=(1, 1, 1))
    protocol = PROTOCOL.model_copy(update={"structures": (*PROTOCOL.structures, canal)})
    doubts = examine_structures(_masks() | {"SpinalCanal": _masks()["SpinalCord"]}, _geometry(), protocol)
    assert {name for name, each in doubts.items() if each} == set()


def test_outside_the_patient():
    masks = _masks() | {"Bladder": _block(((1, 5), (4, 12), (26, 34)))}
    assert _kinds(masks, _geometry()) == {"Bladder": {"outside"}}


class Lazy(Mapping[str, BoolArray]):
    """As the node has them: every look at a name, ``in`` too, makes the mask."""

    def __init__(self, masks: Masks) -> None:
        self.masks, self.taken = masks, []  # type: ignore[var-annotated]

    def __getitem__(self, name: str) -> BoolArray:
        self.taken.append(name)
        return self.masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.masks)

    def __len__(self) -> int:
        return len(self.masks)


def test_masks_are_taken_one_at_a_time_and_others_not_at_all():
    lazy = Lazy(_masks() | {"Unknown": _block(((0, 1), (0, 1), (0, 1)))})
    examine_structures(lazy, _geometry(), PROTOCOL)
    assert sorted(lazy.taken) == sorted([*BLOCKS, "External"])
