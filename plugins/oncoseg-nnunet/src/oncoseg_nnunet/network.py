"""nnU-Net's predictor for a folder, built from names that are known; nothing is looked up that the folder says."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oncoseg_core import MissingDependencyError, UsageError, WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_core.system import display_path
from oncoseg_nnunet.checkpoint import Checkpoint, read_checkpoint
from oncoseg_nnunet.folder import PLANS, ModelFolder

ARCHITECTURES = "dynamic_network_architectures.architectures."
NETWORKS = frozenset({"PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"})
LAYER = re.compile(r"torch\.nn\.(modules\.[a-z]+\.)?[A-Z]\w*")
"""The layers that a plan may name (``conv_op``, ``norm_op``, ``dropout_op``, ``nonlin``)."""

RESAMPLING = frozenset({"resample_data_or_seg_to_shape", "resample_torch_fornnunet", "resample_torch_simple"})
KNOWN = {
    "preprocessor_name": frozenset({"DefaultPreprocessor"}),
    "resampling_fn_data": RESAMPLING,
    "resampling_fn_seg": RESAMPLING,
    "resampling_fn_probabilities": RESAMPLING,
    "normalization_schemes": frozenset(
        {
            "CTNormalization",
            "ZScoreNormalization",
            "NoNormalization",
            "RescaleTo01Normalization",
            "RGBTo01Normalization",
        }
    ),
    "label_manager": frozenset({"LabelManager"}),
    "image_reader_writer": frozenset({"SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"}),
}
"""nnU-Net finds classes and functions by name among all that its modules have; these are the ones for prediction."""


def build_predictor(
    folder: ModelFolder, *, trust: bool, mirroring: bool, step_size: float, device: torch.device
) -> Any:
    """nnU-Net's own predictor (``nnUNetPredictor``) with the network and the weights of all folds.

    Raises:
        WeightsError: a checkpoint cannot be read, or does not fit the network of the plans.
        MissingDependencyError: nnU-Net is not installed.
        UsageError: the folder needs what is not offered: a cascade, a network or a function by name.
    """
    _require_nnunet()
    folds = [read_checkpoint(path, trust=trust) for path in folder.checkpoints]
    configuration = folds[0].configuration
    if any(fold.configuration != configuration for fold in folds):
        raise WeightsError(f"{display_path(folder.path)}: its folds are of different configurations")
    if not trust:
        _require_known(folder, configuration)
    with quiet():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(folder.plans)
        chosen = _configuration(manager, configuration, folder)
        if chosen.previous_stage_name is not None:
            raise UsageError(
                f"{display_path(folder.path)}: {configuration} is the second stage of a cascade, which needs the "
                f"segmentation of {chosen.previous_stage_name}; choose a folder of 3d_fullres, 3d_lowres or 2d"
            )
        heads = manager.get_label_manager(folder.dataset).num_segmentation_heads
        network = _network(folder, chosen, determine_num_input_channels(manager, chosen, folder.dataset), heads)
        for path, fold in zip(folder.checkpoints, folds, strict=True):
            _require_fitting(network, fold, display_path(path))
        predictor = nnUNetPredictor(
            tile_step_size=step_size, use_mirroring=mirroring, device=device, allow_tqdm=False, verbose=False,
            verbose_preprocessing=False,
        )  # fmt: skip
        predictor.manual_initialization(
            network, manager, chosen, [fold.weights for fold in folds], folder.dataset, folds[0].trainer,
            folds[0].mirror_axes,
        )  # fmt: skip
    return predictor


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """nnU-Net prints what it does and warns of folders that prediction does not need."""
    ensure_torchvision_imports()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _configuration(manager: Any, name: str, folder: ModelFolder) -> Any:
    try:
        return manager.get_configuration(name)
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{display_path(folder.path / PLANS)}: configuration {name}: {error}") from error


def _network(folder: ModelFolder, configuration: Any, channels: int, heads: int) -> nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    try:
        network: nn.Module = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            channels,
            heads,
            allow_init=False,
            deep_supervision=False,
        )
    except Exception as error:  # whatever wrong numbers in a plan lead to
        raise WeightsError(f"{display_path(folder.path / PLANS)}: its network cannot be built: {error}") from error
    return network


def _require_fitting(network: nn.Module, fold: Checkpoint, where: str) -> None:
    try:
        network.load_state_dict(fold.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{where}: its weights are not those of the network in {PLANS} (trainer {fold.trainer}): {reason}"
        ) from error


def is_trainer_of_nnunet(name: str) -> bool:
    """Whether nnU-Net itself has a trainer of that name; no module is imported for it."""
    import nnunetv2

    package = Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"
    return any(f"class {name}(" in path.read_text(encoding="utf-8") for path in package.rglob("*.py"))


def _require_nnunet() -> None:
    """nnU-Net brings 350 MB of libraries: those who do not use this model need not install them."""
    if importlib.util.find_spec("nnunetv2") is None:
        raise MissingDependencyError("model 'nnunet' needs nnU-Net: pip install 'oncoseg-nnunet[nnunet]'")


def _require_known(folder: ModelFolder, configuration: str) -> None:
    where = display_path(folder.path / PLANS)
    plan = _inherited(folder.plans["configurations"], configuration, where)
    values = {**folder.plans, **plan}
    for key, known in KNOWN.items():
        _require_names(values.get(key, ()), known, f"{where}: {key}")
    architecture = plan.get("architecture")
    if isinstance(architecture, Mapping):
        _require_network(architecture, where)


def _inherited(configurations: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A configuration with what it inherits, as nnU-Net resolves it."""
    chain: list[Mapping[str, Any]] = []
    while True:
        plan = configurations.get(name)
        if not isinstance(plan, Mapping) or len(chain) > len(configurations):
            raise WeightsError(f"{where}: has no configuration {name}; known: {', '.join(sorted(configurations))}")
        chain.append(plan)
        if "inherits_from" not in plan:
            return {key: value for each in reversed(chain) for key, value in each.items()}
        name = plan["inherits_from"]


def _require_network(architecture: Mapping[str, Any], where: str) -> None:
    name = str(architecture.get("network_class_name"))
    if not name.startswith(ARCHITECTURES) or name.rpartition(".")[2] not in NETWORKS:
        _refuse(f"{where}: network_class_name", name, (ARCHITECTURES + "…" + each for each in sorted(NETWORKS)))
    arguments = architecture.get("arch_kwargs", {})
    for key in architecture.get("_kw_requires_import", ()):
        value = arguments.get(key)
        if value is not None and not _is_layer(str(value)):
            _refuse(f"{where}: {key}", value, ["the layers of torch.nn"])


def _is_layer(name: str) -> bool:
    if not LAYER.fullmatch(name):
        return False
    layer = getattr(nn, name.rpartition(".")[2], None)
    return isinstance(layer, type) and issubclass(layer, nn.Module)


def _require_names(values: str | Sequence[str], known: frozenset[str], where: str) -> None:
    for value in (values,) if isinstance(values, str) else values:
        if value not in known:
            _refuse(where, value, sorted(known))


def _refuse(where: str, value: object, known: Any) -> None:
    raise UsageError(
        f"{where} = {value}: is code that is looked up by its name; known: {', '.join(known)}; if you know who made "
        "the folder, set `trust: true`"
    )
