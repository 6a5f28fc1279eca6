"""What is written as DICOM SEG comes back voxel by voxel, from our reader and from other people's."""

import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core.volume import Segmentation
from oncoseg_dicom.read_seg import read_segments
from oncoseg_dicom.seg import SegSettings, write_seg

sys.path.insert(0, str(Path(__file__).parent))
from seg_builders import MOMENT, some_segmentation, some_series

SETTINGS = SegSettings(source=Path("series"), moment=MOMENT)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_every_mask_on_every_geometry_comes_back(tmp_path_factory, data):
    series = data.draw(some_series())
    segmentation = data.draw(some_segmentation(series))
    path = tmp_path_factory.mktemp("seg") / "mask.dcm"
    report = write_seg(segmentation, series, path, SETTINGS)
    assert report.files == (path,)
    found = read_segments(pydicom.dcmread(path), series)
    assert list(found.masks) == list(segmentation.masks)
    for name, mask in segmentation.masks.items():
        np.testing.assert_array_equal(found.masks[name], mask, name)
    assert found.notes == ()
