"""What is copied of the patient is listed in the documentation, and only the file's owner may read it."""

import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from seg_builders import series_on_disk

from oncoseg_core import ExporterSpec, Segmentation, load_plugins
from oncoseg_core.imaging.open_image import read_image
from oncoseg_dicom.rtstruct import header
from oncoseg_dicom.seg import sources

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "dicom.md"


def listed(column):
    """Attributes that the page's table lists as copied to RTSTRUCT (1) or SEG (2)."""
    rows = [
        line.split("|")[1:4] for line in PAGE.read_text().splitlines() if re.match(r"\| .*(Patient|Study)\w+", line)
    ]
    return {
        word for row in rows if row[column].strip() != "no" for word in re.findall(r"[A-Z]\w*[a-z]\w+|\w+UID", row[0])
    }


def test_the_documentation_lists_every_copied_attribute():
    copied = {*header._OF_THE_PATIENT, *header._OF_THE_STUDY, *header._WHERE_PRESENT, *header._UIDS}
    assert copied <= listed(1)
    assert {*sources._TO_COPY} <= listed(2)
    assert not {"PatientAge", "PatientSize", "PatientWeight"} & listed(1)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize("form", ["rtstruct", "seg"])
@pytest.mark.parametrize(("settings", "mode"), [({}, 0o600), ({"private": False}, 0o644)])
def test_files_that_name_the_patient_are_for_their_owner_alone(tmp_path, form, settings, mode):
    registry, folder = load_plugins(), tmp_path / "series"
    series_on_disk(folder, (3, 4, 5), [(0, 0, z) for z in (0.0, 2.0, 4.0)])
    image = read_image(registry, folder)
    mask = np.zeros(image.geometry.shape, dtype=bool)
    mask[0, 1:3, 1:3] = True
    before = os.umask(0o022)
    try:
        exporter = registry.build(ExporterSpec, form, {"source": str(folder), **settings})
        exporter.export(Segmentation({"liver": mask}, image.geometry), tmp_path / "out.dcm")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.dcm").stat().st_mode) == mode
