"""The records as a whole: all are there, agree with each other, and the README says what they say."""

import importlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest

from oncoseg_core import DataError, DatasetAdapter, DatasetSpec
from oncoseg_datasets.cli.listing import markdown
from oncoseg_datasets.layouts.base import FaultKind
from oncoseg_datasets.layouts.picture_folders import LAYOUTS
from oncoseg_datasets.plugin import oncoseg_datasets

SPECS = {spec.name: spec for spec in oncoseg_datasets()}

SLUGS = {
    "msd-brain-tumour", "msd-heart", "msd-liver", "msd-hippocampus", "msd-prostate", "msd-lung", "msd-pancreas",
    "msd-hepatic-vessel", "msd-spleen", "msd-colon", "brats-gli", "brats-ssa", "brats-ped", "opensrh", "duke-breast-mri",
    "cbis-ddsm", "totalsegmentator", "deeplesion", "flare23", "vindr-cxr", "siim-acr-pneumothorax", "montgomery-cxr",
    "shenzhen-cxr", "jsrt", "autopet-iii", "lidc-idri", "kits23", "ucsf-pdgm", "ham10000", "kvasir-seg", "hyper-kvasir",
    "busi", "ddti", "btxrd", "nsclc-radiomics", "isic-2018", "lits", "3d-ircadb", "promise12", "btcv", "lndb",
}  # fmt: skip
"""The 35 training slots and the 6 sets for evaluation alone."""

ELSEWHERE = {"chestx-det", "covid-qu-ex", "luna16", "mama-mia", "uls23"}
"""Datasets without a record that are known to hold images of ours."""


def test_every_dataset_of_the_paper_is_registered(registry):
    assert len(SLUGS) == 41
    assert SPECS.keys() == SLUGS | {"samples", "generic"}
    assert {spec.name for spec in registry.specs(DatasetSpec)} == SPECS.keys()


@pytest.mark.parametrize("name", sorted(SLUGS))
def test_a_record_of_the_paper_says_everything(name):
    spec = SPECS[name]
    assert spec.n_cases or name == "opensrh"  # a case is a slide, and nobody says how many there are
    assert spec.access
    assert spec.phase in {"B", "C", "D", "E1", "E2", "E3", "F1", "F2", "F3", "eval"}
    assert spec.licence
    assert spec.url.startswith("http")
    assert spec.targets
    assert len({target.name for target in spec.targets}) == len(spec.targets)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_behaviour_behind_a_record_exists(name):
    module, _, attribute = SPECS[name].factory.partition(":")
    assert issubclass(getattr(importlib.import_module(module), attribute), DatasetAdapter)


def test_overlaps_are_stated_on_both_sides_alike():
    stated = {(spec.name, o.dataset): (o.certain, o.how) for spec in SPECS.values() for o in spec.overlaps}
    for (one, other), what in stated.items():
        assert other in SLUGS | ELSEWHERE, f"{one} overlaps with {other}, which is no dataset of ours"
        if other in SPECS:
            assert stated.get((other, one)) == what, f"{one} and {other} do not say the same of each other"
    certain = {pair for pair, (sure, _) in stated.items() if sure}
    assert {
        ("kvasir-seg", "hyper-kvasir"),
        ("msd-liver", "lits"),
        ("lits", "3d-ircadb"),
        ("brats-gli", "ucsf-pdgm"),
        ("flare23", "kits23"),
    } <= certain
    assert {("promise12", "msd-prostate"), ("flare23", "msd-colon")} <= stated.keys() - certain


@pytest.mark.parametrize("name", sorted(SLUGS))
def test_a_folder_that_is_not_the_dataset_is_refused_with_where_to_get_it(name, registry, tmp_path):
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "else.txt").write_text("x")
    with pytest.raises(DataError) as refused:
        list(registry.build(DatasetSpec, name).discover(tmp_path))
    message = str(refused.value)
    assert str(tmp_path) in message
    assert SPECS[name].url in message
    assert "\n" not in message


def test_only_these_are_weak():
    weak = {spec.name: spec.annotation for spec in SPECS.values() if spec.annotation not in {"mask", "contours"}}
    assert weak == {"vindr-cxr": "boxes", "deeplesion": "boxes", "duke-breast-mri": "boxes", "opensrh": "class"}


def test_doubts_are_in_plain_words():
    for spec in SPECS.values():
        assert not any("†" in text for text in (*spec.doubts, spec.licence, *(o.how for o in spec.overlaps)))


def test_every_dataset_of_picture_folders_has_a_layout():
    assert {
        spec.name for spec in SPECS.values() if spec.factory.endswith((":PictureFolders", ":Ddti"))
    } == LAYOUTS.keys()


def test_one_thing_has_one_name_in_all_records():
    """So that datasets can be mixed by target: no name differs in spelling alone, or is a synonym of another name."""
    spellings, names = defaultdict(set), {target.name for spec in SPECS.values() for target in spec.targets}
    for spec in SPECS.values():
        for target in spec.targets:
            spellings[target.name.lower().replace("tumor", "tumour")].add(target.name)
            for synonym in target.synonyms:
                assert synonym not in names - {target.name}, f"{spec.name}: {synonym!r} is the name of another target"
    assert {name: found for name, found in spellings.items() if len(found) > 1} == {}


def test_the_phases_have_the_cases_of_the_paper():
    """Sums of the paper's rows, where all members are here; ucsf-pdgm counts 501 exams, of which the paper's sum has 495."""
    cases = defaultdict(int)
    for spec in SPECS.values():
        cases[spec.phase] += spec.n_cases or 0
    assert (cases["B"], cases["C"]) == (1741, 1410)


def test_the_readme_has_the_table_of_the_records():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = "\n".join(markdown(sorted(SPECS.values(), key=lambda spec: spec.name)))
    assert table in readme, "renew it: oncoseg datasets list --markdown"


def test_the_docs_say_of_every_dataset_how_its_layout_was_verified():
    page = (Path(__file__).parents[3] / "docs" / "dataset-layouts.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([a-z0-9-]+)` \| (real archives?|foreign code|page only) \| (\d{4}-\d\d-\d\d|.*?) \|", page, re.MULTILINE
    )
    assert [name for name, _, _ in rows] == sorted(SPECS)
    assert {how for _, how, _ in rows} >= {"foreign code", "page only"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", on) for name, _, on in rows if name in SLUGS)


def test_the_docs_explain_every_kind_of_fault():
    page = (Path(__file__).parents[3] / "docs" / "dataset-layouts.md").read_text(encoding="utf-8")
    assert [kind for kind in get_args(FaultKind) if f"`{kind}`" not in page] == []


def test_records_load_without_heavy_libraries():
    program = (
        "import sys; import oncoseg_datasets.plugin as p; list(p.oncoseg_datasets()); list(p.oncoseg_commands());"
        "print(sorted({'numpy', 'SimpleITK', 'torch', 'matplotlib', 'rich', 'typer', 'pydicom', 'PIL', 'openpyxl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
