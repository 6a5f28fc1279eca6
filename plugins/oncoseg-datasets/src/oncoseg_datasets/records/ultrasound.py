"""Ultrasound: breast and thyroid. The label value 1 is what any of an image's mask pictures marks."""

from oncoseg_core import DatasetSpec, Target

BUSI = DatasetSpec(
    name="busi",
    factory="oncoseg_datasets.layouts.picture_folders:PictureFolders",
    summary="Breast ultrasound: 437 benign and 210 malignant images with masks, 133 normal ones",
    modalities=("ultrasound",),
    targets=(Target(name="breast tumour", labels=frozenset({1}), synonyms=("breast tumor",), kind="lesion"),),
    licence="free for research (Cairo University)",
    url="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    citation="Al-Dhabyani et al. 2020 Data in Brief 28:104863",
    n_cases=780,
    access="open",
    phase="F2",
    doubts=(
        "the licence: a Kaggle copy says CC0, which was not checked",
        (
            "no patient ids are published (600 patients, 780 images), and duplicates are known even across classes "
            "(Pawlowska et al. 2023): images of one patient count as several patients"
        ),
        "a case is one image, with the 133 normal ones; the paper's row fits the 647 that show a lesion",
    ),
)

DDTI = DatasetSpec(
    name="ddti",
    factory="oncoseg_datasets.layouts.ddti:Ddti",
    summary="Thyroid ultrasound: the 637 images with nodule masks of a later release, or the page's own archive",
    modalities=("ultrasound",),
    targets=(Target(name="thyroid nodule", labels=frozenset({1}), kind="lesion"),),
    licence="research use, no explicit licence (Universidad Nacional de Colombia)",
    url="http://cimalab.intec.co/applications/thyroid/",
    citation="Pedraza et al. 2015 SPIE 9287",
    n_cases=637,
    access="open",
    phase="F3",
    doubts=(
        "the preprocessed release lost the case numbers: images of one patient count as several patients",
        "the columns of category.csv (benign, malignant) are not known, so the cases have no category",
        (
            "the number of cases is that of the preprocessed release, which a third party made; the page's own archive "
            "(N.xml with N_1.jpg, about 480 images of 390 patients) is read too, and knows its patients"
        ),
    ),
)

SPECS: tuple[DatasetSpec, ...] = (BUSI, DDTI)
