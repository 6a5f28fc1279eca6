"""What has to be said of one's own data."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from oncoseg_core import NormalizerSpec, Target, load_plugins
from oncoseg_datasets.layouts.label_images import LabelSettings

TargetName: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
Values: TypeAlias = Annotated[frozenset[int], Field(min_length=1)]
Names: TypeAlias = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
Colour: TypeAlias = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
_MODALITY = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,63}")


def modality_name(text: str) -> str:
    """A modality's name, as plugins give them.

    Raises:
        ValueError: no modality can have that name; the message lists those that there are.
    """
    if not _MODALITY.fullmatch(text):
        known = sorted(spec.modality for spec in load_plugins().specs(NormalizerSpec))
        raise ValueError(f"no modality has that name; expected one of {', '.join(known)}, or several joined by +")
    return text


Modality: TypeAlias = Annotated[str, AfterValidator(modality_name)]


class GenericSettings(LabelSettings):
    """One's own data in one of four layouts.

    ``layout``: ``nnunet`` (``dataset.json``, ``imagesTr``, ``labelsTr``), ``folders`` (files that match a pattern),
    ``manifest`` (a CSV or JSON file that lists the cases) or ``dicom`` (series, and the RTSTRUCT or SEG objects that
    name them, in any folders; read by the plugin oncoseg-dicom).

    ``modality``: what the images are, unless each row of a manifest or the DICOM headers say it; of DICOM series those
    of another modality are then left out. ``channel_names``: what the channels are, where the layout does not say.
    ``targets``: label values by the target's name; nnU-Net's ``dataset.json`` says them already. ``ignored``: values
    that may occur in a label and belong to no target. ``lesions``: names of targets whose connected components are
    lesions by themselves, each prompted by itself in training and scoring.

    Labels may be pictures. Their values are a palette's indices, grey values, the one value of colours whose red, green
    and blue are the same, and of JPEG 255 where brighter than half; other colours are refused. ``colours``: which value
    each colour of a label stands for, such as ``{"#ff0000": 1}``; black is 0 unless it is among them.

    ``structures``: names of structures by the target's name, for labels that have names instead of values; ``*`` and
    ``?`` stand for any text and letter, capitals are all the same. A structure of no target is left alone. Without it
    every structure of the layout ``dicom`` is a target of its own name. ``objects``: which to take where a series has
    both ``rtstruct`` and ``seg``. ``unlabelled``: series without structures are cases too.

    ``salt``: a patient's pseudonym is a hash of it and the PatientID, so that it stays the same wherever and whenever
    the data are read. Without a salt of your own, whoever knows an ID can find its pseudonym.

    ``images``, ``labels``: patterns of paths below the root for ``folders``. ``{case}`` stands for the case,
    ``{patient}`` for the patient, ``{channel}`` for the channel (in the order of ``channel_names``, or sorted); none of
    them takes a ``/``. ``manifest``: the file's path below the root.

    ``fold``: which fold of nnU-Net's ``splits_final.json`` validates; the others train. The file lies beside
    ``dataset.json``, or where nnU-Net writes it (``nnUNet_preprocessed`` beside ``nnUNet_raw``).

    ``trust_image_grid``: as in :class:`LabelSettings`, for labels with values.
    """

    layout: Literal["nnunet", "folders", "manifest", "dicom"]
    modality: Modality | None = None
    channel_names: tuple[str, ...] = ()
    targets: dict[TargetName, Values] = Field(default_factory=dict)
    ignored: frozenset[int] = frozenset()
    lesions: frozenset[TargetName] = frozenset()
    colours: dict[Colour, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    structures: dict[TargetName, Names] = Field(default_factory=dict)
    objects: Literal["rtstruct", "seg"] | None = None
    unlabelled: bool = False
    salt: str = ""
    images: str | None = None
    labels: str | None = None
    manifest: str | None = None
    fold: Annotated[int, Field(ge=0)] | None = None

    @field_validator("images", "labels", "manifest")
    @classmethod
    def _below_the_root(cls, value: str | None) -> str | None:
        if value is not None and (PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts):
            raise ValueError("expected a path below the root")
        return value

    @model_validator(mode="after")
    def _enough_is_said(self) -> GenericSettings:
        needs = {"nnunet": ("modality",), "folders": ("modality", "images"), "manifest": ("manifest",), "dicom": ()}
        takes = {"nnunet": (), "folders": ("images", "labels"), "manifest": ("manifest",), "dicom": ()}
        for name in needs[self.layout]:
            if getattr(self, name) is None:
                raise ValueError(f"layout {self.layout!r} needs {name}")
        for name in ("images", "labels", "manifest"):
            if getattr(self, name) is not None and name not in takes[self.layout]:
                raise ValueError(f"layout {self.layout!r} does not read {name}")
        if self.labels is not None and not self.targets and not self.structures:
            raise ValueError("labels need targets: the label values of each, by its name (or structures: their names)")
        for name in ("images", "labels"):
            pattern = getattr(self, name)
            if pattern is not None and "{case}" not in pattern:
                raise ValueError(f"{name} has no {{case}}; expected a pattern such as images/{{case}}.nii.gz")
        return self

    @model_validator(mode="after")
    def _lesions_are_targets(self) -> GenericSettings:
        names = self.targets or self.structures
        for name in sorted(self.lesions - names.keys() if names else ()):
            raise ValueError(f"lesions names {name!r}, which is no target; the targets are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _labels_have_values_or_names(self) -> GenericSettings:
        if self.targets and self.structures:
            raise ValueError("give targets for labels with values, or structures for labels with names")
        if self.structures and self.layout == "nnunet":
            raise ValueError("layout 'nnunet' does not read structures")
        if self.layout == "dicom" and (self.targets or self.ignored or self.channel_names or self.colours):
            raise ValueError("layout 'dicom' reads structures, not targets, ignored, colours or channel_names")
        if self.structures and self.colours:
            raise ValueError("give colours for labels with values, not for structures with names")
        for name in ("objects", "unlabelled", "salt"):
            if getattr(self, name) and self.layout != "dicom":
                raise ValueError(f"layout {self.layout!r} does not read {name}")
        if self.fold is not None and self.layout != "nnunet":
            raise ValueError(f"layout {self.layout!r} does not read fold")
        if self.trust_image_grid and (self.structures or self.layout == "dicom"):
            raise ValueError("trust_image_grid is for label images with values, not for structures with names")
        return self

    def target_records(self) -> tuple[Target, ...]:
        """The targets as records, in the order they are given; those of named structures are numbered from 1."""
        numbered = {name: frozenset({number}) for number, name in enumerate(self.structures, start=1)}
        return tuple(self.target(name, values) for name, values in (self.targets or numbered).items())

    def target(self, name: str, labels: frozenset[int]) -> Target:
        """A target that the settings or the layout name."""
        return Target(name=name, labels=labels, kind="lesion" if name in self.lesions else None)
