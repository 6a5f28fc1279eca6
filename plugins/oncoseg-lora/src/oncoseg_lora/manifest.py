"""What is written beside an adapter's weights: whose it is, what it was trained on, what it scored. Light: no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, ValidationError

from oncoseg_core import DataError, PromptKind, Record, WeightsError
from oncoseg_core.data import Side
from oncoseg_core.path import PathSettings
from oncoseg_core.system import not_fetched, read_regular
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.settings import LoraSettings

WEIGHTS_FILE: Final = "adapter_model.safetensors"
CONFIG_FILE: Final = "adapter_config.json"
MANIFEST_FILE: Final = "oncoseg.json"
TRAINED_ON_FILE: Final = "trained_on.txt"
CARD_FILE: Final = "README.md"
ADAPTER_FILES = (MANIFEST_FILE, CONFIG_FILE, WEIGHTS_FILE, TRAINED_ON_FILE, CARD_FILE)
"""All that an adapter's folder is read for; the last two may be missing."""

SEQUENCES: Final = "sequences"
"""Beside kinds of prompt: that training followed objects through neighbouring slices."""

HashedFile: TypeAlias = Literal["adapter_model.safetensors", "adapter_config.json", "trained_on.txt"]
"""The files whose hashes the manifest holds. Not the card, which people edit by hand."""

Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Score: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]

Use: TypeAlias = Literal["training", "validation", "scoring"]
"""``validation``: scored after each epoch, to choose among the epochs."""


class SplitSide(Record):
    """How many cases and patients of a dataset were used for what; ``side`` is the split's name of them.

    ``flags`` are the dataset's settings that were on, such as ``trust_image_grid``.
    """

    dataset: str
    side: Side
    used_for: Use
    n_cases: Count
    n_patients: Count
    flags: tuple[str, ...] = ()


class SplitRecord(Record):
    """Which split an adapter was trained with: its hash (:class:`~oncoseg_core.data.splits.FrozenSplit`) and its sizes.

    ``how`` is ``official``, ``made`` or ``file``. Neither cases nor patients are named: the hash alone says whether a
    split is the same one.
    """

    sha256: Sha256
    how: str
    sides: tuple[SplitSide, ...]


class ScoreSummary(Record):
    """Mean and standard deviation (n - 1) over the ``n_cases`` in which the metric is defined."""

    mean: Score | None
    std: Score | None = None
    n_cases: Count


class MetricRow(Record):
    """What a metric was on one target of one dataset, by the untouched model (``before``) and the adapted (``after``).

    ``n_cases`` were scored; ``prompt`` says of which kinds the prompts were, ``prompt_settings`` how they were made.
    """

    metric: str
    unit: str
    better: Literal["higher", "lower"]
    dataset: str
    target: str
    split: Side
    prompt: str
    prompt_settings: dict[str, Any] = Field(default_factory=dict)
    n_cases: Count
    before: ScoreSummary | None = None
    after: ScoreSummary


class LeakageRecord(Record):
    """How many leaks from training into scoring were found; where one is certain, the score is no test."""

    n_certain: Count
    n_suspected: Count


class TrainedParts(Record):
    """What training changed: the modules trained ``whole``, and how many of the model's parameters, LoRA's included."""

    whole: tuple[str, ...]
    n_trained: Count
    n_parameters: Count

    def __str__(self) -> str:
        whole = f" (whole: {', '.join(self.whole)})" if self.whole else ""
        return (
            f"{self.n_trained / max(self.n_parameters, 1):.0%} of {self.n_parameters:,} parameters were trained{whole}"
        )


def has_random_weights(weights_sha256: str, trained: TrainedParts | None = None) -> bool:
    """Whether most of a model's parameters were drawn at random, and neither read from a file nor trained since."""
    trained_since = trained is not None and 2 * trained.n_trained >= trained.n_parameters
    return weights_sha256.startswith("random:") and not trained_since


class AdapterManifest(Record):
    """What ``oncoseg.json`` says of an adapter: whose it is, and the SHA-256 of the files beside it.

    ``paths`` are the settings of the image's path for each modality it was trained on: prediction must use the same.
    ``datasets`` are those it was trained on, and None where that is not known; the hashes of their cases are a file.
    ``parents`` are the SHA-256 of the manifests of the adapters that its training started from, the last one first.
    ``splits``, ``metrics``, ``leakage``, ``trained`` are what a reader needs to trust a number; older ones lack them.
    ``prompts`` are the kinds of prompt that training drew, and ``SEQUENCES`` where it followed objects; older ones lack
    them too.
    """

    model: str
    base_weights_sha256: str
    lora: LoraSettings
    paths: dict[str, PathSettings]
    datasets: tuple[str, ...] | None = None
    parents: tuple[Sha256, ...] = ()
    splits: SplitRecord | None = None
    metrics: tuple[MetricRow, ...] = ()
    leakage: LeakageRecord | None = None
    trained: TrainedParts | None = None
    prompts: tuple[PromptKind | Literal["sequences"], ...] = ()
    versions: dict[str, str]
    files: dict[HashedFile, Sha256]


def read_manifest(directory: Path) -> AdapterManifest:
    """What an adapter's folder says of it.

    Raises:
        WeightsError: the folder or its record is missing, or is not one of an adapter.
    """
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        raise WeightsError(f"{directory}: no such folder; expected an adapter ({MANIFEST_FILE}, {WEIGHTS_FILE})")
    try:
        content = read_regular(path)
        manifest = AdapterManifest.model_validate_json(content)
        json.loads(content, parse_constant=_refuse_constant)
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or error}; expected the record that is saved beside an adapter"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise WeightsError(f"{path}: is not the record of an adapter: {where}: {first['msg']}") from error
    except ValueError as error:
        raise WeightsError(f"{path}: is not the record of an adapter: {error}") from error
    return manifest


def _refuse_constant(name: str) -> None:
    """NaN and Infinity are no JSON, but pydantic takes them."""
    raise ValueError(f"holds {name}, which is no number of JSON")


def read_checked(directory: Path, name: HashedFile, manifest: AdapterManifest) -> bytes:
    """The content of one of an adapter's files, after comparing its hash with the manifest's.

    Raises:
        WeightsError: it is missing or altered.
    """
    path = directory / name
    missing = not_fetched(path)
    if missing is not None:
        raise WeightsError(f"{path}: {missing}")
    try:
        content = read_regular(path)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; the adapter is incomplete, save it again") from error
    found, expected = hashlib.sha256(content).hexdigest(), manifest.files.get(name)
    if found != expected:
        raise WeightsError(
            f"{path}: SHA-256 is {found}, {MANIFEST_FILE} says {expected}; "
            "the file was altered or its save was interrupted, save or copy the adapter again"
        )
    return content


def check_files(directory: Path) -> AdapterManifest:
    """The manifest of an adapter, after comparing all its files with it: weights, PEFT's configuration, what it saw.

    Raises:
        WeightsError: the folder or a file is missing or altered.
    """
    manifest = read_manifest(directory)
    names: list[HashedFile] = [WEIGHTS_FILE, CONFIG_FILE]
    if TRAINED_ON_FILE in manifest.files or manifest.datasets is not None:
        names.append(TRAINED_ON_FILE)
    for name in names:
        read_checked(directory, name, manifest)
    return manifest


def read_trained_on(directory: Path) -> TrainedOn | None:
    """The cases that an adapter has seen; None where it does not tell.

    Raises:
        WeightsError: the folder or a file is missing or altered.
    """
    manifest = read_manifest(directory)
    if manifest.datasets is None:
        return None
    try:
        return TrainedOn.decode(manifest.datasets, read_checked(directory, TRAINED_ON_FILE, manifest))
    except DataError as error:
        raise WeightsError(f"{directory / TRAINED_ON_FILE}: {error}") from error
