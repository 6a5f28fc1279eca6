"""CT: organs and tumours."""

from __future__ import annotations

from oncoseg_core import DatasetSpec, Target
from oncoseg_datasets.records.overlaps import overlaps_of
from oncoseg_datasets.records.structures import STRUCTURES, spoken
from oncoseg_datasets.records.targets import LIVER_TUMOUR, lesion, target


def _structure(value: int, structure: str) -> Target:
    name, plain = spoken(structure), structure.replace("_", " ")
    return target(name, value, also=() if name == plain else (plain,))


SPECS: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        name="totalsegmentator",
        factory="oncoseg_datasets.layouts.totalsegmentator:TotalSegmentator",
        summary="TotalSegmentator v2: 117 structures, one file each; values number the v2 classes",
        modalities=("ct",),
        targets=tuple(_structure(value, structure) for value, structure in enumerate(STRUCTURES, start=1)),
        licence="CC BY 4.0",
        url="https://zenodo.org/records/10047292",
        citation="Wasserthal et al., Radiol Artif Intell 5(5):e230024, 2023",
        n_cases=1228,
        access="open",
        phase="E2",
        overlaps=overlaps_of("totalsegmentator"),
        doubts=("The Zenodo number of v2 was not checked.",),
    ),
    DatasetSpec(
        name="flare23",
        factory="oncoseg_datasets.layouts.flare:FLARE23",
        summary="FLARE23: 13 abdominal organs and any tumour; 2,200 partly labelled scans, where 0 may be unlabelled",
        modalities=("ct",),
        targets=(
            lesion("tumour", 14, also=("tumor",)),
            target("liver", 1),
            target("kidney", 2, 13),
            target("right kidney", 2),
            target("spleen", 3),
            target("pancreas", 4),
            target("aorta", 5),
            target("inferior vena cava", 6),
            target("right adrenal gland", 7),
            target("left adrenal gland", 8),
            target("gallbladder", 9),
            target("esophagus", 10),
            target("stomach", 11),
            target("duodenum", 12),
            target("left kidney", 13),
        ),
        licence="per source; challenge terms, non-commercial",
        url="https://codalab.lisn.upsaclay.fr/competitions/12239",
        citation="Ma et al., arXiv:2408.12534, 2024",
        n_cases=4000,
        access="registration",
        phase="E2",
        overlaps=overlaps_of("flare23"),
        doubts=(
            "The licence (non-commercial) was not checked.",
            "Which classes a scan was annotated for is told nowhere; it is inferred from the values in its label.",
            "Tumour voxels overwrite organ voxels, so an organ with a tumour has a hole there.",
            "A case is a training scan, labelled or not; the paper's row fits these with the 100 for validation.",
            "Its place in the paper's phase E2 is inferred from the sum of cases.",
        ),
    ),
    DatasetSpec(
        name="kits23",
        factory="oncoseg_datasets.layouts.kits:KiTS23",
        summary="KiTS23: kidney, tumour and cyst on contrast-enhanced CT; cysts in 248 of 489",
        modalities=("ct",),
        targets=(
            target("kidney", 1, 2, 3),
            lesion("kidney mass", 2, 3),
            lesion("kidney tumour", 2, also=("kidney tumor",)),
            lesion("kidney cyst", 3),
        ),
        licence="CC BY-NC-SA 4.0",
        url="https://github.com/neheller/kits23",
        citation="Heller et al., arXiv:2307.01984, 2023",
        n_cases=489,
        access="open",
        phase="F1",
        overlaps=overlaps_of("kits23"),
        doubts=(
            "The licence was not checked.",
            "Its place in the paper's phase F1 is inferred from the sum of cases.",
        ),
    ),
    DatasetSpec(
        name="lits",
        factory="oncoseg_datasets.layouts.pairs:PairedFiles",
        summary="LiTS 2017: liver and liver tumours on CT; the scans of MSD Liver; evaluation only",
        modalities=("ct",),
        targets=(target("liver", 1, 2), lesion("liver tumour", 2, also=LIVER_TUMOUR)),
        licence="CC BY-NC-ND 4.0",
        url="https://competitions.codalab.org/competitions/17094",
        citation="Bilic et al., Med Image Anal 84:102680, 2023",
        n_cases=131,
        access="registration",
        phase="eval",
        overlaps=overlaps_of("lits"),
        doubts=(
            "The 20 volumes of 3D-IRCADb are said to have flipped axes or a spacing of 1, 1, 1 in their headers.",
            "The header of label 53 is said to hold no grid of its own: trust_image_grid reads such labels.",
        ),
    ),
    DatasetSpec(
        name="btcv",
        factory="oncoseg_datasets.layouts.pairs:PairedFiles",
        summary="BTCV abdomen: 13 organs and vessels on portal venous CT; evaluation only",
        modalities=("ct",),
        targets=(
            target("spleen", 1),
            target("right kidney", 2),
            target("left kidney", 3),
            target("gallbladder", 4),
            target("esophagus", 5),
            target("liver", 6),
            target("stomach", 7),
            target("aorta", 8),
            target("inferior vena cava", 9),
            target("portal vein and splenic vein", 10),
            target("pancreas", 11),
            target("right adrenal gland", 12),
            target("left adrenal gland", 13),
        ),
        licence="Synapse terms",
        url="https://www.synapse.org/#!Synapse:syn3193805",
        citation="Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, 2015",
        n_cases=30,
        access="registration",
        phase="eval",
        overlaps=overlaps_of("btcv"),
        doubts=(
            "MONAI and UNETR are said to train on 24 and score on 6 of the 30; no official split of them is known.",
            "The DenseVNet multi-organ set (TCIA and BTCV) is said to reuse its images.",
        ),
    ),
    DatasetSpec(
        name="lndb",
        factory="oncoseg_datasets.layouts.lndb:LNDb",
        summary="LNDb: lung nodules of at least 3 mm on CT, by up to three readers; evaluation only",
        modalities=("ct",),
        # The values of the files number a reader's findings; 1 stands for any that is a nodule. The three readers made
        # 236, 177 and 67 masks.
        targets=(lesion("lung nodule", 1),),
        licence="CC BY-NC-ND 4.0",
        url="https://zenodo.org/record/7153205",
        citation="Pedrosa et al., arXiv:1911.08434, 2019",
        n_cases=236,
        access="open",
        phase="eval",
        overlaps=overlaps_of("lndb"),
        doubts=("The licence was not checked.",),
    ),
)
