"""The records of the public datasets, and what every adapter does with a folder that is not its dataset."""

import re
import subprocess
import sys

import pytest
from dataset_builders import adapter

from oncoseg_core.errors import DataError
from oncoseg_datasets.layouts.picture_folders import LAYOUTS
from oncoseg_datasets.plugin import RECORDS

SPECS = {spec.name: spec for records in RECORDS for spec in records.SPECS}
each = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def test_every_dataset_is_there_once():
    names = [spec.name for records in RECORDS for spec in records.SPECS]
    assert len(names) == len(set(names))
    assert {
        "3d-ircadb",
        "btxrd",
        "busi",
        "cbis-ddsm",
        "ddti",
        "deeplesion",
        "duke-breast-mri",
        "ham10000",
        "hyper-kvasir",
        "isic-2018",
        "jsrt",
        "kvasir-seg",
        "lidc-idri",
        "montgomery-cxr",
        "nsclc-radiomics",
        "opensrh",
        "shenzhen-cxr",
        "siim-acr-pneumothorax",
        "vindr-cxr",
    } <= set(names)


@each
def test_a_folder_that_is_not_the_dataset_is_refused_with_where_to_get_it(spec, tmp_path):
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "else.txt").write_text("x")
    with pytest.raises(DataError) as found:
        list(adapter(spec.name).discover(tmp_path))
    message = str(found.value)
    assert re.search(rf"holds no {spec.name}: looked for .{{10,}}; get it from {re.escape(spec.url)}", message)
    assert "\n" not in message


@each
def test_records_are_complete(spec):
    assert spec.access
    assert spec.phase
    assert spec.url.startswith("http")
    assert len({target.name for target in spec.targets}) == len(spec.targets)
    assert not any("†" in text for text in (*spec.doubts, spec.licence, *(o.how for o in spec.overlaps)))


def test_only_these_are_weak():
    weak = {spec.name: spec.annotation for spec in SPECS.values() if spec.annotation not in {"mask", "contours"}}
    assert weak == {"vindr-cxr": "boxes", "deeplesion": "boxes", "duke-breast-mri": "boxes", "opensrh": "class"}


def test_overlaps_are_told_by_both():
    for spec in SPECS.values():
        for overlap in spec.overlaps:
            if (other := SPECS.get(overlap.dataset)) is not None:
                back = [one for one in other.overlaps if one.dataset == spec.name]
                assert [one.certain for one in back] == [overlap.certain], (spec.name, other.name)
    assert {overlap.dataset for overlap in SPECS["3d-ircadb"].overlaps} == {"lits", "msd-liver"}
    assert {overlap.dataset for overlap in SPECS["kvasir-seg"].overlaps} == {"hyper-kvasir"}


def test_every_dataset_of_pictures_has_a_layout():
    pictures = {spec.name for spec in SPECS.values() if spec.factory.endswith(":PictureFolders")}
    assert pictures == LAYOUTS.keys()


def test_records_load_no_reader():
    program = (
        "import sys, oncoseg_datasets.plugin as plugin\n"
        "assert len(list(plugin.oncoseg_datasets())) > 19\n"
        "print([name for name in ('pydicom', 'PIL', 'openpyxl', 'SimpleITK', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
