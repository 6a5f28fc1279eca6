"""The DICOM reader keeps the contract of readers, on a written series with a SEG."""

import sys
from pathlib import Path

import numpy as np

from oncoseg_core.records import ReaderSpec
from oncoseg_core.registry import load_plugins
from oncoseg_core.testing import check_reader
from oncoseg_core.volume import Segmentation
from oncoseg_dicom.seg import SegSettings, write_seg

sys.path.insert(0, str(Path(__file__).parent))
from seg_builders import series_on_disk, some_masks


def test_it_keeps_the_contract(tmp_path):
    _, series = series_on_disk(tmp_path / "series", (3, 9, 7), [(5.0, -3.0, z) for z in (0.0, 2.0, 5.0)])
    masks = some_masks(np.random.default_rng(0), series.geometry.shape, 2)
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    reader = load_plugins().build(ReaderSpec, "dicom")
    (tmp_path / "empty").mkdir()
    check_reader(reader, tmp_path / "empty", image=tmp_path / "series", masks=tmp_path / "seg.dcm")
