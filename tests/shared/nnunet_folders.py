"""Small folders as nnU-Net v2 leaves them: plans, dataset.json and checkpoints of networks with random weights."""

import json

import numpy as np
import torch
from torch import nn


def plans(*, dimensions=3, spacing=(2.0, 1.5, 1.5), patch=(16, 16, 16), channels=1, transpose=(0, 1, 2), reader="SimpleITKIO", torch_resampling=False):  # fmt: skip
    """Of a U-Net with two stages."""
    kernels, strides = [[3] * dimensions] * 2, [[1] * dimensions, [2] * dimensions]
    name, resample = (
        ("3d_fullres", "resample_data_or_seg_to_shape") if dimensions == 3 else ("2d", "resample_data_or_seg_to_shape")
    )
    numbers = {"force_separate_z": None, "order_z": 0}
    if torch_resampling:
        resample = "resample_torch_fornnunet"
        numbers = {"force_separate_z": False}
        orders = ({}, {}, {})
    else:
        orders = ({"order": 3, "is_seg": False}, {"order": 1, "is_seg": True}, {"order": 1, "is_seg": False})
    if torch_resampling:
        orders = ({"is_seg": False}, {"is_seg": True}, {"is_seg": False})
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": list(patch)[-dimensions:], "median_image_size_in_voxels": [20] * dimensions,
        "spacing": list(spacing)[-dimensions:], "normalization_schemes": ["CTNormalization", "ZScoreNormalization"][:channels],
        "use_mask_for_norm": [False] * channels, "batch_dice": True,
        **{
            key: value
            for part, order in zip(("data", "seg", "probabilities"), orders, strict=True)
            for key, value in ((f"resampling_fn_{part}", resample), (f"resampling_fn_{part}_kwargs", {**order, **numbers}))
        },
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2, "features_per_stage": [4, 8], "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                "kernel_sizes": kernels, "strides": strides, "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1],
                "conv_bias": True, "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    properties = {"mean": 20.0, "std": 150.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0, "min": -1000.0, "max": 1000.0, "median": 0.0}  # fmt: skip
    return {
        "dataset_name": "Dataset001_Test", "plans_name": "nnUNetPlans", "image_reader_writer": reader,
        "original_median_spacing_after_transp": list(spacing), "original_median_shape_after_transp": [20, 20, 20],
        "transpose_forward": list(transpose), "transpose_backward": [list(transpose).index(axis) for axis in range(3)],
        "configurations": {name: configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): properties for channel in range(channels)},
    }  # fmt: skip


LABELS = {"background": 0, "liver": 1, "kidney_right": 2, "kidney_left": 3}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def write_folder(path, *, labels=None, regions=None, channels=("CT",), folds=(0,), seed=0, extra=None, dataset=None, trainer="nnUNetTrainer", mirror_axes="all", **options):  # fmt: skip
    """Write a folder, and give it."""
    folder = path / f"{trainer}__nnUNetPlans__{'2d' if options.get('dimensions') == 2 else '3d_fullres'}"
    folder.mkdir(parents=True)
    content = plans(channels=len(channels), **options)
    labels = labels or (REGIONS if regions else LABELS)
    described = {
        "channel_names": {str(index): name for index, name in enumerate(channels)}, "labels": labels,
        "numTraining": 2, "file_ending": ".nii.gz", **({"regions_class_order": regions} if regions else {}),
        **(dataset or {}),
    }  # fmt: skip
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(described))
    for fold in folds:
        network = new_network(
            content, len(channels), len(labels) - bool(regions), seed + (0 if fold == "all" else fold)
        )
        (name,) = content["configurations"]
        axes = tuple(range(options.get("dimensions", 3))) if mirror_axes == "all" else mirror_axes
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.01, momentum=0.99).state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(-0.25)], "epoch": [np.int64(1)]},
            "_best_ema": np.float64(0.5), "current_epoch": 1,
            "init_args": {"plans": content, "configuration": name, "fold": fold, "dataset_json": described, "device": torch.device("cpu")},
            "trainer_name": trainer, "inference_allowed_mirroring_axes": axes, **(extra or {}),
        }  # fmt: skip
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def new_network(content, channels, heads, seed):
    """With weights so large that several classes win somewhere."""
    from oncoseg_nnunet.network import quiet

    with quiet():
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    (configuration,) = content["configurations"].values()
    architecture = configuration["architecture"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = get_network_from_plans(
            architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"],
            channels, heads, allow_init=True, deep_supervision=False,
        )  # fmt: skip
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, 0, 0.3)
    return network
