"""What an archive took counts when it gives it back as it was sent."""

import numpy as np
import pydicom
import pytest

from oncoseg_dicom import write_series
from oncoseg_dicomweb import ArchiveError, compare_stored


class Late:
    """An archive that gives an instance after so many answers that it has none."""

    def __init__(self, content, late=0, problem="not_found"):
        self.content, self.late, self.problem = content, late, problem

    def retrieve(self, *_):
        self.late -= 1
        if self.late >= 0:
            raise ArchiveError(self.problem, "not yet")
        return self.content


@pytest.fixture
def file(tmp_path):
    return write_series(tmp_path, np.zeros((1, 4, 4), "int16"), [(0, 0, 0)])[0]


def compared(archive, file):
    waited = []
    return compare_stored(archive, file, "1.2", "1.3", "1.4", waits=(1.0, 2.0), sleep=waited.append), waited


def test_an_equal_one_has_no_difference(file):
    assert compared(Late(file.read_bytes()), file) == (None, [])


def test_a_changed_one_is_described(file, tmp_path):
    data = pydicom.dcmread(file)
    data.PatientID = "changed"
    data.save_as(tmp_path / "changed.dcm")
    difference, _ = compared(Late((tmp_path / "changed.dcm").read_bytes()), file)
    assert "PatientID" in difference


def test_one_that_is_late_is_asked_for_again_and_no_longer_than_that(file):
    assert compared(Late(file.read_bytes(), 2), file) == (None, [1.0, 2.0])
    with pytest.raises(ArchiveError, match="not yet"):
        compared(Late(file.read_bytes(), 3), file)


def test_another_failure_is_not_waited_for(file):
    with pytest.raises(ArchiveError):
        compared(Late(file.read_bytes(), 1, "refused"), file)
