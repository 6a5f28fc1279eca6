"""OncoSeg: adapt promptable segmentation models to cancer imaging.

The names below are what a plugin's light ``plugin.py`` needs; importing them loads no heavy library.
"""

from oncoseg_core.contract.hookspecs import hookimpl
from oncoseg_core.contract.records import (
    Case,
    CommandSpec,
    DatasetSpec,
    ExporterSpec,
    LoraSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    NormalizerSpec,
    Overlap,
    PromptGeneratorSpec,
    ReaderSpec,
    Target,
    TrackerSpec,
)

__version__ = "0.1.0"

__all__ = [
    "Case",
    "CommandSpec",
    "DatasetSpec",
    "ExporterSpec",
    "LoraSpec",
    "LossSpec",
    "MetricSpec",
    "ModelSpec",
    "NormalizerSpec",
    "Overlap",
    "PromptGeneratorSpec",
    "ReaderSpec",
    "Target",
    "TrackerSpec",
    "__version__",
    "hookimpl",
]
