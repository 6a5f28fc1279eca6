"""What the exporters refuse before a model has worked for it: the same as when they write."""

import pytest

from oncoseg_core import Geometry, OncoSegError
from oncoseg_dicom.rtstruct.write import RTStructExporter, RTStructSettings
from oncoseg_dicom.seg.write import SegExporter, SegSettings

GRID = Geometry.from_parts((2, 3, 4), (3.0, 1.0, 1.0))
KINDS = {"rtstruct": (RTStructExporter, RTStructSettings), "seg": (SegExporter, SegSettings)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["a" * 65], {}, "has room for 64|cannot be a label: DICOM has room for 64"),
        (["a\\b"], {}, "rename it"),
        (["a", "b"], {"names": {"a": "b"}}, "two structures would have one name"),
        (["liver"], {"names": {"livr": "b"}}, "the settings speak of 'livr', which is no target; did you mean 'liver'"),
    ],
)
def test_names_that_do_not_fit(kind, names, settings, message, tmp_path):
    exporter, made_of = KINDS[kind]
    built = exporter(made_of(source=tmp_path, **settings))
    with pytest.raises(OncoSegError, match=message):
        built.check(names, GRID)
    built.check(["liver", "Läsion 肝"], GRID) if not settings else None
