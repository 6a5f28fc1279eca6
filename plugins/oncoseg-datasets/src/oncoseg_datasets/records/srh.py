"""Stimulated Raman histology. Label values are numbers of the patches' class, given here."""

from oncoseg_core import DatasetSpec, Target

SRH_TUMOR, SRH_NORMAL = 1, 2

OPENSRH = DatasetSpec(
    name="opensrh",
    factory="oncoseg_datasets.layouts.opensrh:OpenSrh",
    summary="Raman histology of brain tumours: over 1,300 slides of 307 patients, each patch with a class (no masks)",
    modalities=("srh",),
    targets=(
        Target(name="brain tumour tissue", labels=frozenset({SRH_TUMOR}), synonyms=("brain tumor tissue",)),
        Target(name="normal brain tissue", labels=frozenset({SRH_NORMAL})),
    ),
    licence="CC BY-NC-SA 4.0",
    url="https://opensrh.mlins.org",
    citation="Jiang et al. 2022 NeurIPS D&B, arXiv:2206.08439",
    annotation="class",
    access="registration",
    phase="D",
    doubts=(
        (
            "the inner folder names and the split of 247 and 60 patients were not checked against the archive; a case "
            "is one slide, while the paper's row counts 250"
        ),
        (
            "which of the two numbers in a patch's name counts rows was not checked: if slides look jumbled, set "
            "first_number to column"
        ),
    ),
)

SPECS: tuple[DatasetSpec, ...] = (OPENSRH,)
