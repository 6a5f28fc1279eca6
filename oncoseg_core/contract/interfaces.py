"""What a component must do: one abstract class per kind, called directly, never through a hook.

Every component is built the same way: its class carries a pydantic ``Settings`` model, ``Registry.build`` validates the
user's settings against it, and the class is called as ``Class(settings)``. A dataset's adapter also gets its record as
``spec=``, a loss ``modality=``, a tracker ``run_directory=``.

Axes: voxels are ``(channel, z, y, x)``, masks bool ``(z, y, x)``, slices ``(channel, y, x)`` and ``(y, x)``; spacing is
in millimetres in the order of the mask's axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeAlias, cast

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from oncoseg_core.contract import answers as expected
from oncoseg_core.contract.answers import Provider, answers, guard
from oncoseg_core.contract.errors import DataError
from oncoseg_core.contract.prompts import Prompt
from oncoseg_core.contract.records import AutomaticModelSpec, Case, DatasetSpec, Header, ModelSpec, Stats, Target

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oncoseg_core.contract.geometry import Geometry
    from oncoseg_core.contract.volume import Segmentation, Volume

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` by work that takes long."""


class Settings(BaseModel):
    """Base of every settings model: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoSettings(Settings):
    """For a component that has nothing to set."""


S = TypeVar("S", bound=BaseModel, default=Any)
"""A component's settings model: ``class Mine(Normalizer[MySettings])`` has ``self.settings`` of that type."""


class Component(ABC, Generic[S]):
    """Base of every behaviour: remembers its validated settings.

    One that the registry built has its ``provider``: its errors name it, and its answers are checked.
    """

    Settings: ClassVar[type[BaseModel]] = NoSettings
    provider: Provider | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        guard(cls, Component)

    def __init__(self, settings: S | None = None) -> None:
        self.settings: S = settings if settings is not None else cast("S", self.Settings())


class Normalizer(Component[S]):
    """Maps one modality's intensities to [0, 1]. Fitted once per volume, applied per slice in O(slice)."""

    @answers(expected.like_voxels)
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        """Bring values as a file stores them to what the modality means by them, once, before :meth:`fit`.

        Args:
            voxels: a whole volume ``(channel, z, y, x)`` after the file's rescale slope and intercept; not modified.
            header: what the file tells; empty for formats that tell nothing.

        Default: ``PhotometricInterpretation`` MONOCHROME1, where low values are shown bright (DICOM PS3.3,
        C.7.6.3.1.2), is turned around, so that more is always brighter: whole numbers within their own range, others
        by their sign.

        Raises:
            DataError: the header lacks what is needed; the message names it.
        """
        if header.get("PhotometricInterpretation") != "MONOCHROME1":
            return voxels
        if voxels.dtype.kind == "f":
            return -voxels
        # In the array's own dtype: the differences may wrap around, and wrap back.
        turned: np.ndarray = voxels.max() - (voxels - voxels.min())
        return turned

    @answers(expected.statistics)
    @abstractmethod
    def fit(self, voxels: np.ndarray) -> Stats:
        """Learn from a whole volume ``(channel, z, y, x)`` of any real dtype, which is not modified."""

    @answers(expected.unit_voxels)
    @abstractmethod
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        """Map voxels ``(channel, ...)`` to float32 in [0, 1] of the same shape; the input is not modified."""

    @answers(expected.flag)
    def recognises(self, voxels: np.ndarray) -> bool:  # noqa: ARG002
        """Whether these values can only be this modality's (Hounsfield units, say). Default: never sure."""
        return False

    @answers(expected.example)
    def example(self) -> np.ndarray | None:
        """A small generated image ``(channel, z, y, x)`` of this modality, for pictures; None if there is none."""
        return None


class DatasetAdapter(Component[S]):
    """Finds a dataset's cases in a folder laid out as it was downloaded, and reads them.

    Built with ``spec=``, its record, so that one class can serve a family of datasets; it says which.
    """

    def __init__(self, settings: S | None = None, *, spec: DatasetSpec | None = None) -> None:
        super().__init__(settings)
        self.spec = spec

    @answers(expected.is_a(Case))
    @abstractmethod
    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the cases under ``root`` in a fixed order. Reads names, not voxels. A bad one has a ``fault``.

        Raises:
            DataError: the folder is not this dataset; the message says what was looked for. Never for one case.
        """

    @answers(expected.image_and_masks)
    @abstractmethod
    def load(self, case: Case) -> tuple[Volume, dict[str, np.ndarray]]:
        """Read one of the cases: its image, and a bool mask ``(z, y, x)`` on the image's grid per annotated target.

        Needs nothing but the case, so that it can run in another process. :class:`oncoseg_core.FileDataset` reads image
        files with one label image of whole numbers.

        Raises:
            ImageReadError, GeometryError, DataError: a file cannot be read, or is not what it should be.
        """

    @answers(expected.is_a(Path))
    def fetch(self, progress: Progress) -> Path:  # noqa: ARG002
        """Download the dataset and return its root, for the few datasets that a package index serves.

        Raises:
            DataError: this dataset has to be obtained by hand (default).
        """
        which = "this dataset" if self.spec is None else f"dataset {self.spec.name!r}"
        raise DataError(
            f"{which} cannot be downloaded for you: give the folder that holds it, as data.root in a "
            "training, as root of the dataset or below data_root in a benchmark"
        )


class PromptGenerator(Component[S]):
    """Makes a prompt from a reference, as a person would have given it."""

    @answers(expected.prompt)
    @abstractmethod
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        """Make a prompt for one target from its bool mask ``(y, x)`` on a slice, drawing only from ``rng``.

        A generator that makes only texts needs no object and is also asked about slices without the target.

        Args:
            mask: not modified.
            rng: the only source of randomness.
            target: what the mask shows, by its name and synonyms.

        Raises:
            PromptError: the mask is empty, and the prompt would have to point at something.
        """


class SegmentationLoss(Component[S]):
    """A training loss. Build with ``modality=`` (its weighting may depend on it)."""

    def __init__(self, settings: S | None = None, *, modality: str) -> None:
        super().__init__(settings)
        self.modality = modality

    @answers(expected.loss_terms)
    @abstractmethod
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Weighted terms by name, each a scalar that is the mean over the batch; the loss is their sum.

        Args:
            logits: ``(batch, y, x)``, before the sigmoid.
            target: ``(batch, y, x)``, 0 or 1, of the logits' dtype.
        """


class Instances(NamedTuple):
    """The single objects behind one answer: ``logits`` ``(k, h, w)``, ``scores`` ``(k,)``, best first; k may be 0."""

    logits: torch.Tensor
    scores: torch.Tensor


class Decoded(NamedTuple):
    """What a model makes of n prompts.

    ``logits`` ``(n, h, w)`` cover the whole square input, at whatever resolution; nowhere positive where the model says
    that there is nothing. ``scores`` ``(n,)``: how sure it is of the mask. ``presence`` ``(n,)``: the probability that
    what was asked for is there at all, NaN for prompts that point at it; ``instances``: the objects apart, one entry
    per prompt. None from models that do not tell.
    """

    logits: torch.Tensor
    scores: torch.Tensor
    presence: torch.Tensor | None = None
    instances: tuple[Instances, ...] | None = None


class TrainingOutput(NamedTuple):
    """What a model is taught by.

    ``logits`` ``(n, h, w)`` of the masks that shall become the targets. ``by_mask`` bool ``(n,)``: False where the mask
    is not the answer and no loss on it is wanted: an absent object that the model denies by its presence score.
    ``terms``: further losses by name, already weighted, one value per prompt ``(n,)``.
    """

    logits: torch.Tensor
    by_mask: torch.Tensor
    terms: Mapping[str, torch.Tensor]


class SliceTracker(ABC):
    """Follows one object from slice to slice, in pixels of the model's input: one direction, then the other."""

    @abstractmethod
    def start(self, embedding: Any, prompt: Prompt) -> Decoded:
        """Segment the object on the slice that was prompted (one image, n = 1)."""

    @abstractmethod
    def follow(self, embedding: Any) -> Decoded:
        """Segment it on the next slice, from what was found before."""

    @abstractmethod
    def rewind(self) -> None:
        """Forget every slice but the prompted one, whose neighbour on the other side is the next to be followed."""


class PromptableModel(Component[S]):
    """A promptable segmentation model; the class is also a ``torch.nn.Module``.

    ``spec`` is the record it was registered with, ``weights_sha256`` the digest of the file its weights came from, or
    ``random:<seed>`` for weights that are no weights: whoever uses the model says so loudly.
    """

    spec: ModelSpec
    weights_sha256: str

    @answers()
    @abstractmethod
    def encode_image(self, pixels: torch.Tensor) -> Any:
        """Encode ``(batch, 3, size, size)`` pixels, in ``spec.input_range``, to an embedding (tensors, batch first)."""

    @answers(expected.decoded)
    @abstractmethod
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt. Prompts are in pixels of the square input.

        The embedding holds one image per prompt, or a single image that all prompts share.

        Raises:
            PromptError: a prompt is of a kind that this model does not take.
        """

    @answers(expected.is_a(TrainingOutput))
    def training_output(self, embedding: Any, prompts: Sequence[Prompt], targets: torch.Tensor) -> TrainingOutput:
        """What to compute the loss from, gradients included.

        Default: the logits of :meth:`decode`, all of which count. Override it where the answer is chosen among several
        candidates (by the targets, in training), or where scores are taught too.

        Args:
            embedding: of one image per prompt.
            prompts: n of them, in pixels of the square input. An empty one stands for the object of the one before, on
                the next slice; only for a model that has a :meth:`slice_tracker`.
            targets: 0/1 ``(n, size, size)`` on the model's input; empty where the object is absent.
        """
        import torch

        logits = self.decode(embedding, prompts).logits
        return TrainingOutput(logits, torch.ones(len(targets), dtype=torch.bool, device=logits.device), {})

    @answers()
    def slice_tracker(self) -> SliceTracker | None:
        """The model's own way to follow an object through slices; None where it has none (default)."""
        return None


class AutomaticResult(NamedTuple):
    """Masks bool ``(z, y, x)`` on the image's grid by structure; a mapping may make each when it is asked for.

    An empty mask: the structure was looked for and is not there. ``confidences`` in [0, 1] are of those structures that
    the model judges, ``method`` says how. ``notes`` are what a user must know, without a word about the patient.
    """

    masks: Mapping[str, np.ndarray]
    confidences: Mapping[str, float] = MappingProxyType({})
    method: str = ""
    notes: tuple[str, ...] = ()


class AutomaticModel(Component[S]):
    """Finds its structures without a prompt.

    ``spec`` is the record it was registered with, completed by what its settings say (structures, modalities,
    spacing, licence). ``weights_sha256`` is the digest of what its answers come from: weights, atlases, the rules.
    """

    spec: AutomaticModelSpec
    weights_sha256: str

    @answers(expected.automatic)
    @abstractmethod
    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """Segment these of its structures on one image of calibrated values, which is not modified.

        Raises:
            DataError: the image is none that it can work on; the message says what it expects.
        """


class Finding(NamedTuple):
    """One thing that was looked at, what was found, and whether it is as it should be."""

    what: str
    found: str
    ok: bool


class Structures(NamedTuple):
    """Masks bool ``(z, y, x)`` on their image's grid by the structures' names, in the file's order.

    ``notes`` are what a user must know of how they were read (left out, renamed, off a slice, a threshold taken),
    without a word about the patient. ``details`` are what a format says of a structure beside its voxels, by name: for
    :attr:`Segmentation.details`.
    """

    masks: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()
    details: Mapping[str, Mapping[str, str]] = MappingProxyType({})


class Reader(Component[S]):
    """Reads images, and perhaps structures, of one format that the core does not read itself."""

    @answers(expected.flag)
    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is of this format, at a glance. Never raises; False for what does not exist."""

    @answers(expected.volume)
    @abstractmethod
    def read(self, path: Path) -> Volume:
        """Read the one image that a path holds; its ``modality`` is ``unknown`` where the format does not tell.

        Raises:
            ImageReadError, GeometryError, DataError: it cannot be read, or holds none or several; these are told apart
                in the message, with the setting that chooses one.
        """

    @answers(expected.structures)
    def read_masks(self, path: Path, image: Volume) -> Structures:  # noqa: ARG002
        """Read structures: a bool mask ``(z, y, x)`` on the image's grid by the structure's name. Default: refuses.

        Raises:
            ImageReadError, GeometryError, DataError: it holds no structures, or they do not belong to the image.
        """
        raise DataError(f"{path}: this format holds no structures that can be read")

    @answers(expected.is_a(list))
    def examine(self, path: Path) -> list[Finding]:
        """What a person checks of an image before trusting it, without a word about the patient. Default: its grid.

        Raises:
            ImageReadError, GeometryError, DataError: as for :meth:`read`.
        """
        from oncoseg_core.contract.grid_checks import grid_findings

        image = self.read(path)
        return grid_findings(image.geometry, physical=image.physical)


class ExportReport(NamedTuple):
    """What an exporter wrote: the files, and what it found worth telling."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class Exporter(Component[S]):
    """Writes a segmentation in one format, reads it back, and compares before saying done."""

    @answers()
    def check(self, names: Sequence[str], geometry: Geometry) -> None:
        """Refuse early: structures of these names on this grid are to be segmented and written, later.

        Raises:
            OncoSegError: the format cannot hold them; the message says what to do.
        """

    @answers(expected.planned_files)
    def files(self, destination: Path) -> tuple[Path, ...]:
        """All that :meth:`export` writes, ``destination`` first, the others beside it; their names must be free."""
        return (destination,)

    @answers(expected.written_files)
    @abstractmethod
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write to ``destination``; nothing partial is left behind.

        Raises:
            StorageError: the destination cannot be written.
        """


class Metric(Component[S]):
    """Compares masks."""

    @answers(expected.score)
    @abstractmethod
    def compute(
        self, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]
    ) -> float | None:
        """Score a bool prediction against a bool reference ``(z, y, x)``; spacing in mm ``(z, y, x)``.

        None where the score is not defined (both masks empty, say).
        """


class Tracker(Component[S]):
    """Receives what happens in a run. Build with ``run_directory=``. Only the first process has trackers."""

    def __init__(self, settings: S | None = None, *, run_directory: Path) -> None:
        super().__init__(settings)
        self.run_directory = run_directory

    @answers()
    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:
        """A run starts with this effective configuration, afresh (None) or after that many finished steps.

        A resumed run takes the steps after it again: their metrics come a second time.
        """

    @answers()
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers at a step; ``values["event"]`` says which (``train``, ``validation``, ``score``)."""

    @answers()
    def image(self, name: str, png: bytes, caption: str) -> None:
        """A picture, as PNG bytes."""

    @answers()
    def checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint was written."""

    @answers()
    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run ended with this summary."""
