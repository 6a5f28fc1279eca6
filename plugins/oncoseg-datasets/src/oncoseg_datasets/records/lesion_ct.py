"""CT with lesions that come as boxes, contours or one DICOM mask per structure.

Label values are numbers that the adapters give; for DeepLesion those of its ``Coarse_lesion_type``.
"""

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of

DEEPLESION_TYPES: dict[int, str] = {
    1: "bone lesion",
    2: "abdominal lesion",
    3: "mediastinal lesion",
    4: "liver lesion",
    5: "lung lesion",
    6: "kidney lesion",
    7: "soft tissue lesion",
    8: "pelvic lesion",
}
DEEPLESION_UNKNOWN = -1
DEEPLESION = DatasetSpec(
    name="deeplesion",
    factory="oncoseg_datasets.layouts.deeplesion:DeepLesion",
    summary="32,735 lesions on 32,120 CT slices of 4,427 patients, each with a box around its RECIST axes (no masks)",
    modalities=("ct",),
    targets=(
        Target(name="lesion", labels=frozenset({DEEPLESION_UNKNOWN, *DEEPLESION_TYPES}), kind="lesion"),
        *(Target(name=name, labels=frozenset({value}), kind="lesion") for value, name in DEEPLESION_TYPES.items()),
    ),
    licence="NIH open data, no restriction stated beyond citation",
    url="https://nihcc.app.box.com/v/DeepLesion",
    citation="Yan et al. 2018 J Med Imaging 5(3):036501",
    annotation="boxes",
    n_cases=32_120,
    access="open",
    phase="E2",
    overlaps=overlaps_of("deeplesion"),
    doubts=(
        "a case is one key slice, while the paper's row counts lesions; not every lesion on a slice is annotated",
        "that the type of lesion is known in the validation and test part only was not checked",
        "it may share patients with other NIH Clinical Center sets",
    ),
)

LIDC_IDRI = DatasetSpec(
    name="lidc-idri",
    factory="oncoseg_datasets.layouts.lidc_idri:LidcIdri",
    summary="1,018 chest CT with lung nodules outlined by up to four radiologists",
    modalities=("ct",),
    targets=(Target(name="lung nodule", labels=frozenset({1}), kind="lesion"),),
    licence="CC BY 3.0",
    url="https://www.cancerimagingarchive.net/collection/lidc-idri/",
    citation="Armato et al. 2011 Med Phys 38:915",
    annotation="contours",
    n_cases=1_018,
    access="open",
    phase="F1",
    overlaps=overlaps_of("lidc-idri"),
    doubts=(
        (
            "the counts (1,018 scans of 1,010 patients, about 143 patients without a nodule of 3 mm) were not checked; "
            "the paper's row counts the 888 scans of LUNA16"
        ),
        "pylidc knows of scans with two slices at one place; such a scan is refused when it is loaded",
    ),
)

NSCLC_RADIOMICS = DatasetSpec(
    name="nsclc-radiomics",
    factory="oncoseg_datasets.layouts.nsclc_radiomics:NsclcRadiomics",
    summary="422 CT for planning radiotherapy of lung cancer, with the planning contours of 421",
    modalities=("ct",),
    targets=(
        Target(name="lung tumour", labels=frozenset({1}), synonyms=("lung tumor",), kind="lesion"),
        Target(name="lung", labels=frozenset({2, 3, 4})),
        Target(name="spinal cord", labels=frozenset({5})),
        Target(name="heart", labels=frozenset({6})),
        Target(name="esophagus", labels=frozenset({7})),
    ),
    licence="CC BY-NC 3.0",
    url="https://www.cancerimagingarchive.net/collection/nsclc-radiomics/",
    citation="Aerts et al. 2014 Nat Commun 5:4006",
    annotation="contours",
    n_cases=422,
    access="open",
    phase="F3",
    doubts=(
        "the licence: one source says CC BY 3.0",
        "a few structure sets are said to spell GTV-1 otherwise (gtv1) or to have a GTV-2, which is left out",
        (
            "other readers leave out LUNG1-014, 021, 085, 095, 194 and 412 for slices that do not fit; they are "
            "refused when they are loaded if that is so"
        ),
    ),
)

IRCADB = DatasetSpec(
    name="3d-ircadb",
    factory="oncoseg_datasets.layouts.ircadb:Ircadb",
    summary="20 abdominal CT, 15 with liver tumours, with a mask of each structure",
    modalities=("ct",),
    targets=(
        Target(name="liver", labels=frozenset({1, 2})),
        Target(name="liver tumour", labels=frozenset({2}), synonyms=("liver tumor",), kind="lesion"),
        Target(name="portal vein", labels=frozenset({3})),
    ),
    licence="Creative Commons (CC BY-NC-ND, licence file in each folder)",
    url="https://www.ircad.fr/research/data-sets/liver-segmentation-3d-ircadb-01/",
    citation="Soler et al. 2010 IRCAD",
    n_cases=20,
    access="open",
    phase="eval",
    overlaps=overlaps_of("3d-ircadb"),
    doubts=(
        "which Creative Commons licence it is was not checked against the file in the folders",
        "that msd-liver numbers the shared cases as LiTS does was not checked",
    ),
)

SPECS: tuple[DatasetSpec, ...] = (DEEPLESION, LIDC_IDRI, NSCLC_RADIOMICS, IRCADB)
