"""The DICOM reader keeps the contract of readers, on a written series with a SEG."""

import numpy as np
from seg_builders import series_on_disk, some_masks

from oncoseg_core import ReaderSpec, Segmentation, load_plugins
from oncoseg_dicom.seg.write import SegSettings, write_seg
from oncoseg_testing import check_reader


def test_it_keeps_the_contract(tmp_path):
    _, series = series_on_disk(tmp_path / "series", (3, 9, 7), [(5.0, -3.0, z) for z in (0.0, 2.0, 5.0)])
    masks = some_masks(np.random.default_rng(0), series.geometry.shape, 2)
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    reader = load_plugins().build(ReaderSpec, "dicom")
    (tmp_path / "empty").mkdir()
    check_reader(reader, tmp_path / "empty", image=tmp_path / "series", masks=tmp_path / "seg.dcm")
