"""Which datasets hold the same images, stated once and given to the records of both sides."""

from __future__ import annotations

from typing import NamedTuple

from oncoseg_core import Overlap


class _Edge(NamedTuple):
    one: str
    other: str
    certain: bool
    how: str


_EDGES = (
    _Edge("msd-liver", "lits", True, "the same 131 labelled scans"),
    _Edge("3d-ircadb", "lits", True, "LiTS volumes 28-44 and 46-48 are 3D-IRCADb 1-20; leave out 27-48 to be safe"),
    _Edge("3d-ircadb", "msd-liver", True, "through LiTS, whose numbers MSD Liver is assumed to keep"),
    _Edge("msd-brain-tumour", "brats-gli", True, "BraTS 2016/17 cases were released again; BraTS21-17_Mapping.csv"),
    _Edge("ucsf-pdgm", "brats-gli", True, "298 exams are in BraTS 2021; column BraTS21 ID of the metadata csv"),
    _Edge("msd-liver", "flare23", True, "MSD and LiTS are stated sources of FLARE23"),
    _Edge("msd-pancreas", "flare23", True, "MSD is a stated source of FLARE23"),
    _Edge("msd-spleen", "flare23", True, "MSD is a stated source of FLARE23"),
    _Edge("msd-colon", "flare23", False, "MSD is a stated source of FLARE23, without saying which tasks"),
    _Edge("lits", "flare23", True, "LiTS is a stated source of FLARE23"),
    _Edge("kits23", "flare23", True, "KiTS is a stated source of FLARE23"),
    _Edge("autopet-iii", "flare23", True, "autoPET is a stated source of FLARE23"),
    _Edge("totalsegmentator", "flare23", True, "TotalSegmentator is a stated source of FLARE23"),
    _Edge("msd-prostate", "promise12", False, "both hold cases of Radboud UMC; no document says which"),
    _Edge("kvasir-seg", "hyper-kvasir", True, "1,000 polyp images of one hospital: taken as the same until compared"),
    _Edge("ham10000", "isic-2018", False, "one archive with disjoint image numbers; near duplicates are possible"),
    # Datasets that have no record here; a plugin that brings one is then warned.
    _Edge("siim-acr-pneumothorax", "chestx-det", False, "both are said to come from NIH ChestX-ray14"),
    _Edge("montgomery-cxr", "covid-qu-ex", True, "COVID-QU-Ex and lung-mask bundles on Kaggle reuse its images"),
    _Edge("shenzhen-cxr", "covid-qu-ex", True, "COVID-QU-Ex and lung-mask bundles on Kaggle reuse its images"),
    _Edge("lidc-idri", "luna16", True, "LUNA16 is 888 of its 1,018 scans"),
    _Edge("duke-breast-mri", "mama-mia", True, "MAMA-MIA holds 291 of its patients"),
    *(
        _Edge(name, "uls23", True, "ULS23 repackages crops of it")
        for name in ("msd-lung", "msd-pancreas", "msd-colon", "lits", "kits23", "lidc-idri", "lndb", "deeplesion")
    ),
)


def overlaps_of(dataset: str) -> tuple[Overlap, ...]:
    """The other datasets that hold some of this one's images."""
    forward = [Overlap(dataset=e.other, certain=e.certain, how=e.how) for e in _EDGES if e.one == dataset]
    backward = [Overlap(dataset=e.one, certain=e.certain, how=e.how) for e in _EDGES if e.other == dataset]
    return (*forward, *backward)
