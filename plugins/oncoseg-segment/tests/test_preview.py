"""Pictures: which slices, outlines along the voxels' edges, upright, and nothing about whose they are."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oncoseg_core import Geometry
from oncoseg_core.imaging.overlay import outline_edges
from oncoseg_segment.files.preview import MOST_STRUCTURES, _close_up, draw_preview, key_slices


def test_key_slices():
    mask = np.zeros((9, 4, 4), dtype=bool)
    assert key_slices(mask) == []
    mask[3, 0, 0] = True
    assert key_slices(mask) == [(3, "the only one")]
    mask[4, :2] = mask[6, 0, 0] = True
    assert key_slices(mask) == [(4, "largest"), (3, "first"), (6, "last")]
    mask[6] = True
    assert key_slices(mask) == [(6, "largest and last"), (3, "first")]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 7), width=st.integers(1, 7))
def test_outlines_are_the_edges_between_inside_and_outside(seed, height, width):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    padded = np.pad(mask, 1)
    edges = set()
    for y in range(height + 1):
        edges |= {((x, y), (x + 1, y)) for x in range(width) if padded[y, x + 1] != padded[y + 1, x + 1]}
    for x in range(width + 1):
        edges |= {((x, y), (x, y + 1)) for y in range(height) if padded[y + 1, x] != padded[y + 1, x + 1]}
    found = []
    for (x0, y0), (x1, y1) in outline_edges(mask):
        steps = max(x1 - x0, y1 - y0)
        assert min(x1 - x0, y1 - y0) == 0 < steps
        found += [
            ((x0 + k * (x1 > x0), y0 + k * (y1 > y0)), (x0 + (k + 1) * (x1 > x0), y0 + (k + 1) * (y1 > y0)))
            for k in range(steps)
        ]
    assert sorted(found) == sorted(edges)


def picture(masks, geometry, shown=None, **more):
    grey = np.full((3, *geometry.shape[1:]), 0.2, dtype=np.float32)
    png = draw_preview(masks, geometry, shown or (lambda _: grey), **more)
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}  # no text of any kind
        return np.asarray(image.convert("RGB")).astype(int)


def orange(pixels):
    """Where the first structure's outline is, in the whole slice: the left half of the picture."""
    left = pixels[:, : pixels.shape[1] // 2]
    return (left[..., 0] > 200) & (left[..., 1] > 120) & (left[..., 1] < 200) & (left[..., 2] < 90)


@pytest.mark.parametrize("row_mm", [1.0, 0.5])
def test_a_structure_is_drawn_upright_and_in_its_proportions(row_mm):
    """Stored with rows from the back to the front: the structure at stored row 0 is at the picture's bottom."""
    direction = np.diag([1.0, -1.0, 1.0])
    geometry = Geometry.from_parts((3, 60, 60), (3.0, row_mm, 1.0), direction)
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[1, 5:15, 10:30] = True  # 20 x 10 pixels
    drawn = orange(picture({"GTV": mask}, geometry))
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert rows.mean() > drawn.shape[0] * 0.5
    proportion = np.ptp(rows) / np.ptp(columns)
    assert proportion == pytest.approx(0.5 * row_mm, abs=0.05)


def test_the_slice_that_is_shown_is_the_one_that_is_named():
    asked = []
    geometry = Geometry.from_parts((5, 30, 30))
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[1, 3, 3] = mask[2, 3:6, 3:6] = mask[4, 3, 3] = True

    def shown(index):
        asked.append(index)
        return np.zeros((3, 30, 30), dtype=np.float32)

    picture({"a": mask}, geometry, shown)
    assert asked == [2, 2, 1, 4]


def test_many_structures_and_names_of_all_kinds_and_none():
    geometry = Geometry.from_parts((2, 30, 30))
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[0, 3:9, 3:9] = True
    one = picture({"a$b_{": mask}, geometry)
    many = picture({f"structure {number} of {'x' * 60}": mask for number in range(MOST_STRUCTURES + 2)}, geometry)
    assert many.shape[0] < (one.shape[0] + 10) * MOST_STRUCTURES
    picture({"empty": np.zeros_like(mask)}, geometry)
    picture({}, geometry)


def test_the_patients_sides_are_marked_where_they_are_known():
    geometry = Geometry.from_parts((2, 60, 60))
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[0, 28:32, 28:32] = True
    marked, bare = (picture({"a": mask}, geometry, physical=physical) for physical in (True, False))
    rows, columns = np.nonzero((marked != bare).any(axis=2))
    panel = marked.shape[1] // 2
    letters = {(int(row) // 40, int(column) // 40) for row, column in zip(rows, columns, strict=True) if column < panel}
    left = [place for place in letters if place[1] == 0]
    top = [place for place in letters if place[0] <= 1]
    assert left
    assert top
    assert len(letters) <= 8


def test_a_close_up_stays_within_the_slice_where_it_fits():
    plane = np.zeros((200, 100), dtype=bool)
    plane[0:20, 0:10] = True
    (top, bottom), (left, right) = _close_up(plane, 1.0)
    assert (top, bottom, left, right) == (0, 50, 0, 50)
    plane[:] = False
    plane[150:190, 60:70] = True
    (top, bottom), (left, right) = _close_up(plane, 1.0)
    assert (top, bottom, left, right) == (100, 200, 0, 100)
    plane[:] = True
    assert _close_up(plane, 1.0) == ((0, 200), (-50, 150))
    small = np.zeros((100, 100), dtype=bool)
    small[50, 50] = True
    (top, bottom), (left, right) = _close_up(small, 2.0)  # rows twice as high as columns are wide
    assert (bottom - top, right - left) == (24, 48)
