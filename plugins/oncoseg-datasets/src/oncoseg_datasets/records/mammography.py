"""Mammograms. Label values are numbers of the abnormality's kind, given here."""

from oncoseg_core import DatasetSpec, Target

CBIS_MASS, CBIS_CALCIFICATION = 1, 2

CBIS_DDSM = DatasetSpec(
    name="cbis-ddsm",
    factory="oncoseg_datasets.layouts.cbis_ddsm:CbisDdsm",
    summary="Digitised mammograms with a mask for each mass or calcification, official training and test sets",
    modalities=("mammography",),
    targets=(
        Target(name="breast mass", labels=frozenset({CBIS_MASS}), kind="lesion"),
        Target(name="breast calcification", labels=frozenset({CBIS_CALCIFICATION}), kind="lesion"),
        Target(
            name="breast lesion",
            labels=frozenset({CBIS_MASS, CBIS_CALCIFICATION}),
            synonyms=("suspicious lesion",),
            kind="lesion",
        ),
    ),
    licence="CC BY 3.0",
    url="https://www.cancerimagingarchive.net/collection/cbis-ddsm/",
    citation="Lee et al. 2017 Sci Data 4:170177",
    n_cases=3_103,
    access="open",
    phase="E1",
    doubts=(
        (
            "the number of mammograms (3,103) and of calcification rows (1,546 training, 326 test) was not checked; a "
            "case is one mammogram, while the paper's row counts the 2,864 training abnormalities"
        ),
    ),
)

SPECS: tuple[DatasetSpec, ...] = (CBIS_DDSM,)
