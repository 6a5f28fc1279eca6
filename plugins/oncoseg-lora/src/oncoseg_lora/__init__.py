"""LoRA adapters: inject, save, load, describe; what they were trained on, found again among what is scored.

The names below are for plugins and programs; each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from oncoseg_core.system import lazy_exports

if TYPE_CHECKING:
    from oncoseg_lora.card import DatasetFacts, Evidence
    from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters, trained_parts
    from oncoseg_lora.leakage import (
        Leak,
        Scan,
        TrainedOn,
        declared_leaks,
        leak_rows,
        refuse_leaks,
        same_scans,
        seen_scans,
    )
    from oncoseg_lora.manifest import (
        ADAPTER_FILES,
        CARD_FILE,
        CONFIG_FILE,
        MANIFEST_FILE,
        SEQUENCES,
        TRAINED_ON_FILE,
        WEIGHTS_FILE,
        AdapterManifest,
        LeakageRecord,
        MetricRow,
        ScoreSummary,
        SplitRecord,
        SplitSide,
        TrainedParts,
        Use,
        check_files,
        has_random_weights,
        read_checked,
        read_manifest,
        read_trained_on,
    )
    from oncoseg_lora.peft_import import Imported, import_adapter
    from oncoseg_lora.pulled import (
        ALIASES,
        ORIGIN_FILE,
        REPOSITORY_VARIABLE,
        HubName,
        Origin,
        adapter_folder,
        pulled_adapters,
    )
    from oncoseg_lora.settings import LoraSettings
    from oncoseg_lora.store import load_adapter, save_adapter

__all__ = [
    "ADAPTER_FILES",
    "ALIASES",
    "CARD_FILE",
    "CONFIG_FILE",
    "MANIFEST_FILE",
    "ORIGIN_FILE",
    "REPOSITORY_VARIABLE",
    "SEQUENCES",
    "TRAINED_ON_FILE",
    "WEIGHTS_FILE",
    "AdapterManifest",
    "DatasetFacts",
    "Evidence",
    "HubName",
    "Imported",
    "Leak",
    "LeakageRecord",
    "LoraSettings",
    "MetricRow",
    "Origin",
    "Scan",
    "ScoreSummary",
    "SplitRecord",
    "SplitSide",
    "TrainedOn",
    "TrainedParts",
    "Use",
    "adapt",
    "adapter_folder",
    "check_files",
    "declared_leaks",
    "has_random_weights",
    "import_adapter",
    "leak_rows",
    "load_adapter",
    "pulled_adapters",
    "read_checked",
    "read_manifest",
    "read_trained_on",
    "refuse_leaks",
    "same_scans",
    "save_adapter",
    "seen_scans",
    "set_training_mode",
    "trainable_parameters",
    "trained_parts",
]

__getattr__ = lazy_exports(__name__, __file__)
