"""What this distribution provides: one record per modality."""

from collections.abc import Iterator

from oncoseg_core import NormalizerSpec, hookimpl

MRI = NormalizerSpec(
    modality="mri",
    factory="oncoseg_modalities.mri:MRINormalizer",
    summary="1st to 99th percentile of each channel without its air, linear",
    # Spellings of BraTS until 2021, of BraTS from 2023 and of the Decathlon.
    channel_names={
        "flair": ("t2f", "t2-flair", "t2_flair"),
        "t1": ("t1w", "t1n"),
        "t1gd": ("t1ce", "t1c", "t1-gd", "t1post"),
        "t2": ("t2w",),
    },
    channel_order=("flair", "t1", "t1gd", "t2"),
    channel_modes={"t1_t1gd_flair": ("t1", "t1gd", "flair")},
)
SRH = NormalizerSpec(
    modality="srh",
    factory="oncoseg_modalities.srh:SRHNormalizer",
    summary="Raman histology: percentiles of each channel, logarithmic",
    channel_names={"lipids": ("ch2", "lipid"), "proteins": ("ch3", "protein")},
    channel_order=("lipids", "proteins"),
)
SINGLE = tuple(
    NormalizerSpec(
        modality=modality,
        factory=f"oncoseg_modalities.{modality}:{name}Normalizer",
        summary=summary,
        # Consoles write patient and settings beside the picture; letters on radiographs are markers of side and view.
        burned_in_text=modality in {"endoscopy", "ultrasound"},
    )
    for modality, name, summary in (
        ("cxr", "CXR", "Chest radiograph: 1st to 99th percentile without the border, linear"),
        ("dermoscopy", "Dermoscopy", "1st to 99th percentile of each colour channel, linear"),
        ("endoscopy", "Endoscopy", "5th to 95th percentile of each colour channel, linear"),
        ("mammography", "Mammography", "1st to 99th percentile of the breast without the air, linear"),
        ("ultrasound", "Ultrasound", "2nd to 98th percentile, robust against speckle, linear"),
        ("xray", "XRay", "1st to 99th percentile, logarithmic"),
    )
)
CT = NormalizerSpec(
    modality="ct",
    factory="oncoseg_modalities.ct:CTNormalizer",
    summary="Hounsfield window, linear",
    unit="HU",
    # What scanners store: padding down to -3072, metal as far as 16 bits hold.
    plausible=(-3072.0, 32767.0),
    # Air is -1000 HU; a CT of a patient in which nothing is darker than this is cropped, or not in Hounsfield units.
    background=-900.0,
)
PET = NormalizerSpec(
    modality="pet",
    factory="oncoseg_modalities.pet:PETNormalizer",
    summary="SUV, 0.5th to 99.5th percentile without the air, or a window, linear; NaN is no uptake",
    accepts_nan=True,
    unit="SUV",
    # A bladder reaches about 100; below the first, the unit or the dose is wrong.
    highest=(0.5, 200.0),
    calibrated_by_header=True,
)


@hookimpl
def oncoseg_normalizers() -> Iterator[NormalizerSpec]:
    """The intensity normalizers."""
    yield from (*SINGLE, CT, MRI, PET, SRH)
