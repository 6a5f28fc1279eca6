"""BraTS regions in every coding, as properties, and telling a coding from the values of a label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from oncoseg_core import DataError
from oncoseg_core.imaging.formats import target_mask
from oncoseg_datasets.layouts.brats import BraTS
from oncoseg_datasets.records import brats, msd
from oncoseg_datasets.regions import brats_region, detect_coding, region_values

VALUES = {"2021": (0, 1, 2, 4), "2023": (0, 1, 2, 3), "2024": (0, 1, 2, 3, 4), "msd": (0, 1, 2, 3)}
REGIONS = ("WT", "TC", "ET")
CODED = st.sampled_from(sorted(VALUES)).flatmap(
    lambda coding: st.tuples(
        st.just(coding),
        arrays(st.sampled_from([np.uint8, np.int16, np.int32]), array_shapes(min_dims=1, max_dims=3, max_side=6),
               elements=st.sampled_from(VALUES[coding])),
    )
)  # fmt: skip


@given(CODED)
def test_whole_tumour_holds_core_holds_enhancing(coded):
    coding, label = coded
    whole, core, enhancing = (brats_region(label, region, coding=coding) for region in REGIONS)
    assert whole.dtype == core.dtype == enhancing.dtype == bool
    assert whole.shape == label.shape
    assert not (core & ~whole).any()
    assert not (enhancing & ~core).any()


@given(arrays(np.uint8, array_shapes(max_dims=3, max_side=6), elements=st.sampled_from([0, 1, 2, 4])))
def test_the_default_is_the_papers_definition(label):
    assert np.array_equal(brats_region(label, "WT"), label > 0)
    assert np.array_equal(brats_region(label, "TC"), (label == 1) | (label == 4))
    assert np.array_equal(brats_region(label, "ET"), label == 4)


@pytest.mark.parametrize(
    ("coding", "whole", "core", "enhancing"),
    [("2021", {1, 2, 4}, {1, 4}, {4}), ("2023", {1, 2, 3}, {1, 3}, {3}),
     ("2024", {1, 2, 3}, {1, 3}, {3}), ("msd", {1, 2, 3}, {2, 3}, {3})],
)  # fmt: skip
def test_the_values_of_each_coding(coding, whole, core, enhancing):
    label = np.array(VALUES[coding])
    for region, values in zip(REGIONS, (whole, core, enhancing), strict=True):
        assert set(label[brats_region(label, region, coding=coding)].tolist()) == values


@pytest.mark.parametrize(("coding", "strange"), [("2021", 3), ("2023", 4), ("msd", 4), ("2024", 5), ("2021", -1)])
def test_a_value_of_another_year_is_refused(coding, strange):
    with pytest.raises(DataError, match=f"the label holds {strange}; the BraTS coding '{coding}' knows 0, 1, 2"):
        brats_region(np.array([0, 1, strange]), "WT", coding=coding)


@pytest.mark.parametrize(
    ("values", "coding"),
    [({0, 4}, "2021"), ({0, 1, 2, 4}, "2021"), ({0, 3}, "2023"), ({0, 1, 2, 3}, "2023"), ({0, 3, 4}, "2024")],
)
def test_the_coding_is_told_by_the_values_that_differ(values, coding):
    assert detect_coding(values) == coding


@pytest.mark.parametrize("values", [set(), {0}, {0, 1}, {0, 1, 2}])
def test_values_that_every_year_has_tell_nothing(values):
    with pytest.raises(DataError, match="do not tell the BraTS coding"):
        detect_coding(values)


def test_values_of_no_year_are_refused():
    with pytest.raises(DataError, match=r"label values \[0, 7\] are of no BraTS coding; expected 0 to 4"):
        detect_coding([7, 0])


def named(targets):
    """The paper's regions among targets, by the synonym that says so."""
    return {region: next(target for target in targets if region in target.synonyms) for region in REGIONS}


def test_the_targets_of_the_records_are_the_regions():
    brain = next(spec for spec in msd.SPECS if spec.name == "msd-brain-tumour")
    label = np.arange(5, dtype=np.uint8)
    for region, target in named(brain.targets).items():
        assert target.labels == region_values(region, "msd")
    for spec in brats.SPECS:
        for coding in ("2021", "2023"):
            targets = BraTS(spec=spec)._targets(coding)
            if {"brats-gli": {"2021", "2023"}, "ucsf-pdgm": {"2021"}}.get(spec.name, {"2023"}) >= {coding}:
                values = label[np.isin(label, VALUES[coding])]
                for region, target in named(targets).items():
                    assert np.array_equal(target_mask(values, target), brats_region(values, region, coding=coding))
