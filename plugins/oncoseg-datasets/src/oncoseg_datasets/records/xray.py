"""Radiographs of bones. Label values are numbers of the tumour's kind, given here."""

from oncoseg_core import DatasetSpec, Target

BTXRD_SUBTYPES: dict[str, tuple[int, str]] = {
    "osteochondroma": (1, "osteochondroma"),
    "multiple osteochondromas": (2, "multiple osteochondromas"),
    "simple bone cyst": (3, "simple bone cyst"),
    "giant cell tumor": (4, "giant cell tumour of bone"),
    "osteofibroma": (5, "osteofibroma"),
    "synovial osteochondroma": (6, "synovial osteochondroma"),
    "other bt": (7, "other benign bone tumour"),
    "osteosarcoma": (8, "osteosarcoma"),
    "other mt": (9, "other malignant bone tumour"),
}
"""A subtype as the files spell it: the label value, and the target's name."""

BTXRD = DatasetSpec(
    name="btxrd",
    factory="oncoseg_datasets.layouts.btxrd:Btxrd",
    summary="3,746 bone radiographs, 1,867 with outlined tumours of nine kinds, 1,879 normal",
    modalities=("xray",),
    targets=(
        Target(
            name="bone tumour",
            labels=frozenset(value for value, _ in BTXRD_SUBTYPES.values()),
            synonyms=("bone tumor",),
            kind="lesion",
        ),
        *(Target(name=name, labels=frozenset({value}), kind="lesion") for value, name in BTXRD_SUBTYPES.values()),
    ),
    licence="CC BY-NC-ND 4.0 in the article, CC BY 4.0 on figshare",
    url="https://doi.org/10.6084/m9.figshare.27865398",
    citation="Yao et al. 2025 Sci Data 12, s41597-024-04311-y",
    annotation="contours",
    n_cases=3_746,
    access="open",
    phase="F3",
    doubts=(
        "the licence: article and figshare disagree",
        (
            "no patient ids are published, several views of one patient and 21 pairs of equal images are known: they "
            "count as several patients"
        ),
    ),
)

SPECS: tuple[DatasetSpec, ...] = (BTXRD,)
