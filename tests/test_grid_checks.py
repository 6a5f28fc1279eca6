"""What a grid is in words."""

import numpy as np
import pytest

from oncoseg_core import Geometry
from oncoseg_core.contract.grid_checks import grid_findings, orientation


@pytest.mark.parametrize(
    ("x", "y", "z", "words"),
    [
        ((1, 0, 0), (0, 1, 0), (0, 0, 1), "axial; x to the left, y to the back, z to the head"),
        ((-1, 0, 0), (0, -1, 0), (0, 0, 1), "axial; x to the right, y to the front, z to the head"),
        ((1, 0, 0), (0, 0, -1), (0, 1, 0), "coronal; x to the left, y to the feet, z to the back"),
        ((0, 1, 0), (0, 0, -1), (-1, 0, 0), "sagittal; x to the back, y to the feet, z to the right"),
        (
            (0.8, 0, -0.6),
            (0, 1, 0),
            (0.6, 0, 0.8),
            "36.9 degrees off axial; x to the left, y to the back, z to the head",
        ),
    ],
)
def test_orientation(x, y, z, words):
    assert orientation(Geometry.from_parts((3, 4, 5), (1, 2, 3), np.array([x, y, z]).T)) == words


def test_a_sound_grid():
    found = {
        finding.what: (finding.found, finding.ok)
        for finding in grid_findings(Geometry.from_parts((1, 4, 5), (1, 2, 3)))
    }
    assert found["size"] == ("1 slice of 4 x 5 pixels (rows x columns)", True)
    assert found["spacing"] == ("1 x 2 x 3 mm (between slices, rows, columns)", True)
    assert found["grid"] == ("even, axes at right angles", True)


def test_uneven_slices_are_bad():
    geometry = Geometry.from_slices((4, 5), (1, 0, 0), (0, 1, 0), [(0, 0, 0), (0, 0, 1), (0, 0, 5)])
    assert [finding.found for finding in grid_findings(geometry) if not finding.ok] == [
        "its slices are not evenly spaced"
    ]


def test_a_picture_has_no_place():
    findings = grid_findings(Geometry.from_parts((1, 4, 5)), physical=False)
    assert [finding.what for finding in findings] == ["size", "spacing"]
    assert findings[1].found == "not told: a picture without millimetres"
