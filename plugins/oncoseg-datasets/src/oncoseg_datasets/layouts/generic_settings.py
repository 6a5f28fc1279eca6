"""What has to be said of one's own data."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from oncoseg_core.interfaces import Settings
from oncoseg_core.records import Target

TargetName: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
Values: TypeAlias = Annotated[frozenset[int], Field(min_length=1)]
Modality: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$", max_length=64)]


class GenericSettings(Settings):
    """One's own data in one of three layouts.

    ``layout``: ``nnunet`` (``dataset.json``, ``imagesTr``, ``labelsTr``), ``folders`` (files that match a pattern) or
    ``manifest`` (a CSV or JSON file that lists the cases). ``dicom`` is refused with the plugin that will read it.

    ``modality``: what the images are, unless each row of a manifest says it. ``channel_names``: what the channels are,
    where the layout does not say. ``targets``: label values by the target's name; nnU-Net's ``dataset.json`` says them
    already. ``ignored``: values that may occur in a label and belong to no target.

    ``images``, ``labels``: patterns of paths below the root for ``folders``. ``{case}`` stands for the case,
    ``{patient}`` for the patient, ``{channel}`` for the channel (in the order of ``channel_names``, or sorted); none of
    them takes a ``/``. ``manifest``: the file's path below the root.
    """

    layout: Literal["nnunet", "folders", "manifest", "dicom"]
    modality: Modality | None = None
    channel_names: tuple[str, ...] = ()
    targets: dict[TargetName, Values] = Field(default_factory=dict)
    ignored: frozenset[int] = frozenset()
    images: str | None = None
    labels: str | None = None
    manifest: str | None = None

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
        if self.labels is not None and not self.targets:
            raise ValueError("labels need targets: the label values of each, by its name")
        for name in ("images", "labels"):
            pattern = getattr(self, name)
            if pattern is not None and "{case}" not in pattern:
                raise ValueError(f"{name} has no {{case}}; expected a pattern such as images/{{case}}.nii.gz")
        return self

    def target_records(self) -> tuple[Target, ...]:
        """The targets as records, in the order they are given."""
        return tuple(Target(name=name, labels=values) for name, values in self.targets.items())
