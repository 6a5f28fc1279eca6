"""Chest radiographs: lungs, pneumothorax, and the boxes of VinDr-CXR.

Label values are those that the adapters give: 1, 2, … for the mask files of one image, and the numbers of the Kaggle
release for the findings of VinDr-CXR.
"""

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of

VINDR_FINDINGS: dict[str, tuple[int, str]] = {
    "Aortic enlargement": (0, "aortic enlargement"),
    "Atelectasis": (1, "atelectasis"),
    "Calcification": (2, "calcification"),
    "Cardiomegaly": (3, "cardiomegaly"),
    "Consolidation": (4, "consolidation"),
    "ILD": (5, "interstitial lung disease"),
    "Infiltration": (6, "infiltration"),
    "Lung Opacity": (7, "lung opacity"),
    "Nodule/Mass": (8, "lung nodule or mass"),
    "Other lesion": (9, "other lesion"),
    "Pleural effusion": (10, "pleural effusion"),
    "Pleural thickening": (11, "pleural thickening"),
    "Pneumothorax": (12, "pneumothorax"),
    "Pulmonary fibrosis": (13, "pulmonary fibrosis"),
    # 14 is "No finding". The rest is in the PhysioNet release only, which has no numbers.
    "Clavicle fracture": (15, "clavicle fracture"),
    "Edema": (16, "pulmonary edema"),
    "Emphysema": (17, "emphysema"),
    "Enlarged PA": (18, "enlarged pulmonary artery"),
    "Lung cavity": (19, "lung cavity"),
    "Lung cyst": (20, "lung cyst"),
    "Mediastinal shift": (21, "mediastinal shift"),
    "Rib fracture": (22, "rib fracture"),
}
"""A finding as the files spell it: the label value, and the target's name."""

VINDR_KAGGLE_FINDINGS = frozenset(range(14))
"""What the readers' boxes of the Kaggle release cover; the other findings are unlabelled there."""

VINDR_CXR = DatasetSpec(
    name="vindr-cxr",
    factory="oncoseg_datasets.layouts.vindr_cxr:VinDrCxr",
    summary="18,000 chest radiographs with radiologists' boxes around 22 findings (no masks)",
    modalities=("cxr",),
    targets=tuple(Target(name=name, labels=frozenset({value})) for value, name in VINDR_FINDINGS.values()),
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    url="https://physionet.org/content/vindr-cxr/",
    citation="Nguyen et al. 2022 Sci Data 9:429",
    annotation="boxes",
    n_cases=18_000,
    access="agreement",
    phase="E3",
    doubts=(
        "the spelling of the eight findings that only the PhysioNet release has was not checked against it",
        "no patient ids are published: images of one patient count as several patients",
        "VinDr-RibCXR is said to reuse its images",
    ),
)

SIIM_ACR = DatasetSpec(
    name="siim-acr-pneumothorax",
    factory="oncoseg_datasets.layouts.siim_acr:SiimAcr",
    summary="SIIM-ACR challenge 2019: 12,047 chest radiographs with pneumothorax masks, 2,669 of them not empty",
    modalities=("cxr",),
    targets=(Target(name="pneumothorax", labels=frozenset({1})),),
    licence="Kaggle competition rules (research, non-commercial use)",
    url="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
    citation="SIIM-ACR 2019; Filice et al. 2020 J Digit Imaging",
    n_cases=12_047,
    access="registration",
    phase="E3",
    overlaps=overlaps_of("siim-acr-pneumothorax"),
    doubts=(
        "the licence is quoted from general knowledge",
        "the folder name of the second stage (stage_2_images) was not checked against the archive",
        "its images are said to come from NIH ChestX-ray14, as those of other sets do",
        "the paper's row counts its 12,954 lines of run lengths, not its 12,047 images",
    ),
)

MONTGOMERY = DatasetSpec(
    name="montgomery-cxr",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="138 chest radiographs, 58 with tuberculosis, with a mask of each lung",
    modalities=("cxr",),
    targets=(
        Target(name="lung", labels=frozenset({1, 2})),
        Target(name="left lung", labels=frozenset({1})),
        Target(name="right lung", labels=frozenset({2})),
    ),
    licence="public, NLM attribution",
    url="http://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
    citation="Jaeger et al. 2014 QIMS; Candemir et al. 2014 TMI",
    n_cases=138,
    access="open",
    phase="E3",
    overlaps=overlaps_of("montgomery-cxr"),
)

SHENZHEN = DatasetSpec(
    name="shenzhen-cxr",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="662 chest radiographs, 336 with tuberculosis; lung masks for 566 of them, a download of their own",
    modalities=("cxr",),
    targets=(Target(name="lung", labels=frozenset({1})),),
    licence="public, NLM attribution; masks: Kaggle yoctoman/shcxr-lung-mask",
    url="https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/",
    citation="Jaeger et al. 2014 QIMS; Stirenko et al. 2018 (masks)",
    n_cases=662,
    access="open",
    phase="E3",
    overlaps=overlaps_of("shenzhen-cxr"),
)

JSRT = DatasetSpec(
    name="jsrt",
    factory="oncoseg_datasets.layouts.jsrt:Jsrt",
    summary="247 chest radiographs, 154 with a nodule, with the SCR masks of lungs, heart and clavicles",
    modalities=("cxr",),
    targets=(
        Target(name="lung", labels=frozenset({1, 2})),
        Target(name="heart", labels=frozenset({3})),
        Target(name="clavicle", labels=frozenset({4, 5})),
    ),
    licence="JSRT terms, free for research after registration; SCR masks free for research",
    url="http://db.jsrt.or.jp/eng.php",
    citation="Shiraishi et al. 2000 AJR; van Ginneken et al. 2006 MedIA",
    n_cases=247,
    access="registration",
    phase="E3",
    doubts=(
        "that bright is dense only after turning the values around (as MONOCHROME1) was not checked on an image",
        "that the masks have 1024 x 1024 pixels and the images 2048 x 2048 was not checked against the archive",
        "the gray values of the mini sets (segmentation02) are not known: only the full set with the SCR masks is read",
    ),
)

SPECS: tuple[DatasetSpec, ...] = (VINDR_CXR, SIIM_ACR, MONTGOMERY, SHENZHEN, JSRT)
