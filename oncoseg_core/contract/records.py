"""The records that hooks yield: small, typed, frozen, and cheap to import.

A record names a component and says where its behaviour lives (``factory = "package.module:attribute"``); the module
is imported only when the component is used. What the behaviour must do is in :mod:`oncoseg_core.contract.interfaces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.prompts import Prompt, PromptKind

Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.+-]*$", max_length=64)]
Factory: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", description="package.module:attribute")
]
Split: TypeAlias = Literal["train", "validation", "test"]
Annotation: TypeAlias = Literal["mask", "contours", "boxes", "recist", "class"]
"""What a label really is: voxel masks, contours that are filled, or a weak sign of where the object is."""


Stats: TypeAlias = Mapping[str, tuple[float, ...]]
"""What a normalizer learned from a volume: named numbers, one per channel, that survive JSON."""

Header: TypeAlias = Mapping[str, Any]
"""What an image file tells of its values: DICOM attributes by keyword; a sequence is a list of such mappings."""


class Record(BaseModel):
    """Base of every record: frozen, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ComponentSpec(Record):
    """What every component says of itself."""

    kind: ClassVar[str]
    name_field: ClassVar[str] = "name"

    factory: Factory
    summary: Annotated[str, Field(min_length=1, max_length=200)]

    @property
    def component_name(self) -> str:
        """The human name under which the component is asked for, such as ``ct`` or ``samples``."""
        return str(getattr(self, self.name_field))


class NormalizerSpec(ComponentSpec):
    """An intensity normalizer for one modality.

    ``accepts_nan`` says that NaN and infinite voxels are part of the modality (PET background) and handled;
    otherwise the path refuses them before the normalizer sees them.

    ``channel_names`` are the channels that the modality can have, each with its other spellings; ``channel_order`` the
    order in which images without channel names store them; ``channel_modes`` named choices of three channels, the
    first of which is taken where an image has more than three (:mod:`oncoseg_core.path.channels`).

    The rest describes calibrated values, for reports and for warnings. ``unit`` is what they are counted in.
    ``plausible`` are the lowest and the highest value that an image can hold; ``background`` is a value that the lowest
    of a whole image lies at or below (air in CT); the ``highest`` value of an image lies between these two.
    ``calibrated_by_header`` says that files usually store other values, and that their header gives the conversion.
    ``burned_in_text`` says that devices write text into the pixels, perhaps the patient's name.
    """

    kind: ClassVar[str] = "normalizer"
    name_field: ClassVar[str] = "modality"

    modality: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
    accepts_nan: bool = False
    channel_names: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    channel_order: tuple[Name, ...] = ()
    channel_modes: dict[Name, tuple[Name, Name, Name]] = Field(default_factory=dict)
    unit: Annotated[str, Field(min_length=1, max_length=16)] | None = None
    plausible: tuple[float, float] | None = None
    background: float | None = None
    highest: tuple[float, float] | None = None
    calibrated_by_header: bool = False
    burned_in_text: bool = False

    @field_validator("plausible", "highest")
    @classmethod
    def _range_increases(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"a range must increase, found {value}")
        return value

    @model_validator(mode="after")
    def _channels_are_named(self) -> NormalizerSpec:
        for name in (*self.channel_order, *(name for mode in self.channel_modes.values() for name in mode)):
            if name not in self.channel_names:
                raise ValueError(f"channel {name!r} is not in channel_names")
        return self


class Target(Record):
    """A named set of label values; the name is also the text prompt, and ``synonyms`` are other ways to say it.

    Each connected component of a ``lesion`` is an object by itself; an ``organ``, or a target without a kind, is one.
    Example: ``Target(name="tumor core", labels={1, 4})``.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    labels: frozenset[int] = Field(min_length=1)
    synonyms: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    kind: Literal["lesion", "organ"] | None = None


class Fault(Record):
    """Why a case cannot be used: a ``kind`` under which such cases are counted, and a line that names the file."""

    kind: Name
    message: str


class Case(Record):
    """One image of one patient with its annotation, as a dataset adapter found it. Files are read later.

    ``images`` are the channel files in channel order, or one file that holds all channels; ``channel_names`` say what
    the channels are, where the dataset tells. ``modality`` of an image whose channels differ joins theirs with a plus,
    in channel order: ``ct+pet``. ``patient_id`` keeps a patient's cases in one split; it is a pseudonym of the dataset,
    never a name. ``labels`` are the files that hold the annotation, ``annotation`` what it is. ``targets`` are those
    annotated here: a target that is missing is unlabelled, which is not the same as empty. ``category`` is the
    dataset's own group of the case (benign, malignant). A case with a ``fault`` is there and cannot be used: it has
    whatever files are at hand and no labels.
    """

    dataset: str
    case_id: str
    patient_id: str
    modality: str
    images: tuple[Path, ...] = Field(min_length=1)
    channel_names: tuple[str, ...] = ()
    labels: tuple[Path, ...] = ()
    targets: tuple[Target, ...] = ()
    annotation: Annotation = "mask"
    split: Split | None = None
    category: str | None = None
    fault: Fault | None = None

    @model_validator(mode="after")
    def _label_has_targets(self) -> Case:
        if self.labels and not self.targets:
            raise ValueError(f"case {self.case_id} has a label file but names no target in it")
        return self


class Overlap(Record):
    """Images that another dataset holds too: training on one and scoring on the other would be no test.

    ``certain`` is False where it is suspected only. ``how`` says what is known of it, and from where.
    """

    dataset: Name
    certain: bool
    how: str


class DatasetSpec(ComponentSpec):
    """A dataset and the adapter that finds its cases in a folder as it was downloaded.

    ``modalities`` and ``targets`` are empty where the user's settings say what they are (one's own data).

    ``annotation`` is what its labels really are. ``n_cases`` are the cases it was published with, ``access`` how it is
    got, ``phase`` its place in the training chain of the OncoSeg paper. ``doubts`` are statements of this record that
    nobody could check against the archive itself.
    """

    kind: ClassVar[str] = "dataset"

    name: Name
    modalities: tuple[Name, ...]
    targets: tuple[Target, ...]
    licence: str
    url: str
    citation: str
    annotation: Annotation = "mask"
    n_cases: Annotated[int, Field(ge=1)] | None = None
    access: Literal["open", "registration", "agreement"] | None = None
    phase: str | None = None
    overlaps: tuple[Overlap, ...] = ()
    doubts: tuple[str, ...] = ()


class PromptGeneratorSpec(ComponentSpec):
    """Makes prompts of one kind from a reference mask, for training and for scoring."""

    kind: ClassVar[str] = "prompt generator"

    name: Name
    makes: tuple[PromptKind, ...] = Field(min_length=1)

    @property
    def needs_object(self) -> bool:
        """Whether its prompts point at the object, so that it has to be there; a text does not."""
        return set(self.makes) != {"text"}

    @property
    def asks_for_all(self) -> bool:
        """Whether one of its prompts asks for every object of a target at once."""
        return set(self.makes) <= {"text", "exemplar"}


class LossSpec(ComponentSpec):
    """A training loss that returns named terms."""

    kind: ClassVar[str] = "loss"

    name: Name


class LoraSpec(Record):
    """Where LoRA goes in a model, and what may be trained besides it.

    ``targets`` are the last parts of the names of linear layers. ``policies`` map a policy's name to the modules that
    are trained whole besides the LoRA layers; the first policy is the default. ``untrained`` are the kinds of prompt
    that an adapted model cannot serve, each with the reason: parts that they go through are trained by no policy.
    ``taught_by`` names the policies that teach a kind, where not all do; an adapter of another policy leaves these
    prompts to the model as it was.
    """

    targets: tuple[str, ...] = Field(min_length=1)
    policies: dict[str, tuple[str, ...]] = Field(default={"lora": ()}, min_length=1)
    untrained: dict[PromptKind, str] = Field(default_factory=dict)
    taught_by: dict[PromptKind, tuple[str, ...]] = Field(default_factory=dict)

    def untaught(self, kind: PromptKind, policy: str | None) -> str | None:
        """Why an adapter of a policy (the default: None) is not taught a kind, and which are; None where it is."""
        name = policy or next(iter(self.policies))
        policies = self.taught_by.get(kind, tuple(self.policies))
        reason = f"LoRA policy {name!r} does not teach prompts of kind {kind!r}, {' and '.join(policies)} does"
        return None if name in policies else reason


class Licence(Record):
    """Of a model's ``code`` and ``weights``, by name; ``bars`` says what they forbid that an open-source one allows."""

    code: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    bars: str = ""
    non_commercial: bool = False

    @property
    def notice(self) -> str:
        """What a run says of it, once; empty where commercial use is allowed."""
        return f"NO COMMERCIAL USE: code {self.code}, weights {self.weights}" if self.non_commercial else ""


class ModelSpec(ComponentSpec):
    """A promptable segmentation model.

    ``reads_as`` tells what the model makes of kinds that it takes but does not follow to the letter, such as a lasso by
    its bounding box. ``input_size`` is the side of the square input in pixels, ``mask_size`` that of its logits where
    it is smaller; ``input_range`` the values that 0 and 1 become after normalisation (SAM3: ``(-1, 1)``). ``engines``
    are what can compute it besides torch: its setting ``engine`` then takes these, ``torch`` and ``auto``. ``weights``
    says where the weights come from; ``hub_id`` is their repository on the Hugging Face hub, for the cards of adapters.
    """

    kind: ClassVar[str] = "model"

    name: Name
    prompt_kinds: tuple[PromptKind, ...] = Field(min_length=1)
    reads_as: dict[PromptKind, str] = Field(default_factory=dict)
    input_size: Annotated[int, Field(ge=32, le=4096)]
    mask_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    input_range: tuple[float, float] = (0.0, 1.0)
    engines: tuple[str, ...] = ()
    lora: LoraSpec
    weights: str
    licence: Licence | None = None
    hub_id: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None

    @property
    def logits_size(self) -> int:
        """The side of the square of logits that cover the input."""
        return self.mask_size or self.input_size

    def refusal(self, kind: PromptKind, *, adapted: bool) -> str | None:
        """Why the model takes no prompts of that kind, as it is or adapted; None where it does."""
        if kind not in self.prompt_kinds:
            return f"model {self.name!r} takes prompts of kind {', '.join(self.prompt_kinds)}, not {kind!r}"
        if adapted and kind in self.lora.untrained:
            return f"model {self.name!r} with an adapter takes no prompt of kind {kind!r}: {self.lora.untrained[kind]}"
        return None

    def require_served(self, prompt: Prompt, *, adapted: bool) -> None:
        """Refuse a prompt with a hint of a kind that the model, as it is or adapted, does not take.

        Raises:
            PromptError: with the kinds that it takes, or the reason.
        """
        for kind in sorted({hint.kind for hint in prompt}):
            reason = self.refusal(kind, adapted=adapted)
            if reason is not None:
                raise PromptError(reason)

    @model_validator(mode="after")
    def _reads_what_it_takes(self) -> Self:
        if unknown := sorted(set(self.reads_as) - set(self.prompt_kinds)):
            raise ValueError(f"reads_as holds {', '.join(unknown)}, which prompt_kinds does not")
        return self

    @field_validator("input_range")
    @classmethod
    def _increasing(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError(f"input_range must increase, found {value}")
        return value


class AutomaticModelSpec(ComponentSpec):
    """A model without prompts: an image in, named masks out.

    ``structures`` are those that it makes, ``modalities`` those that it was made for; empty where its settings say so
    (a folder of weights, of atlases). ``spacing`` is what it was made for, in mm ``(z, y, x)``. ``weights`` says where
    its knowledge comes from.
    """

    kind: ClassVar[str] = "automatic model"

    name: Name
    structures: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    modalities: tuple[Name, ...] = ()
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    weights: str
    licence: Licence | None = None


class ReaderSpec(ComponentSpec):
    """Reads images, and perhaps structures, in a format that the core does not read itself.

    ``suffixes`` are those that files of the format usually have; they are for messages: what a path really holds is
    asked of the behaviour.
    """

    kind: ClassVar[str] = "reader"
    name_field: ClassVar[str] = "format"

    format: Name
    suffixes: tuple[Annotated[str, Field(pattern=r"^\.[a-z0-9.]+$")], ...] = ()


class ExporterSpec(ComponentSpec):
    """Writes a segmentation in one file format.

    ``needs_source``: the format belongs to the image that was segmented; its settings have ``source``, the image's
    path, and besides the settings that the image's reader has.
    """

    kind: ClassVar[str] = "exporter"
    name_field: ClassVar[str] = "format"

    format: Name
    suffix: Annotated[str, Field(pattern=r"^\.[a-z0-9.]+$")]
    needs_source: bool = False


class MetricSpec(ComponentSpec):
    """A score that compares a predicted mask with a reference."""

    kind: ClassVar[str] = "metric"

    name: Name
    unit: str
    better: Literal["higher", "lower"]


class TrackerSpec(ComponentSpec):
    """Receives what happens in a run: its start, metrics, images, checkpoints and end."""

    kind: ClassVar[str] = "tracker"

    name: Name


class CommandSpec(ComponentSpec):
    """Adds ``oncoseg <name>``; the factory is a ``typer.Typer`` app, imported only when the command is called."""

    kind: ClassVar[str] = "command"

    name: Name
