"""A model as ONNX files with all that a Triton server needs to know of them; whole, or not at all."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from oncoseg_core import ModelSpec, Registry, UsageError, close_matches
from oncoseg_core.plugins import library_versions
from oncoseg_core.system import atomic_write, display_path
from oncoseg_lora import MANIFEST_FILE, adapter_folder
from oncoseg_segment.engine.resolve import adapted_model

RepositoryFormat: TypeAlias = Literal["triton", "onnx"]


@dataclass(frozen=True)
class ModelExport:
    """What to export, and where to: a folder that is not there yet."""

    model: str
    output: Path
    model_settings: Mapping[str, Any]
    adapter: str | None = None
    format: RepositoryFormat = "triton"


@dataclass(frozen=True)
class _File:
    """One part: its name in the repository, its ONNX and what weights are in it."""

    name: str
    content: bytes
    weights: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def export_model(registry: Registry, request: ModelExport) -> dict[str, Any]:
    """Write a model, with its adapter merged, as a Triton model repository or as plain ONNX files.

    Returns:
        What was written: ``files`` with their SHA-256 and that of the weights in them, and the ``model``.

    Raises:
        UsageError: the folder is there already, or the model's plugin has no ONNX export.
        WeightsError, MissingDependencyError: as for building the model, or ``onnx`` is not installed.
        StorageError: it cannot be written; nothing is left behind.
    """
    if request.output.exists() or request.output.is_symlink():
        raise UsageError(f"{display_path(str(request.output))} is there already; choose another `output`")
    spec = registry.get(ModelSpec, request.model)
    if not spec.engines:
        known = [one.name for one in registry.specs(ModelSpec) if one.engines]
        raise UsageError(f"model {spec.name!r} has no ONNX export{close_matches('', known)}")
    adapter = None if request.adapter is None else adapter_folder(request.adapter)
    model: Any = adapted_model(registry, request.model, request.model_settings, adapter)
    parts = {name: _File(f"{spec.name}_{name}", *part) for name, part in model.onnx_parts().items()}
    digest = None if adapter is None else hashlib.sha256((adapter / MANIFEST_FILE).read_bytes()).hexdigest()
    facts = {
        "model": spec.name,
        "base weights": model.weights_sha256,
        "adapter": digest,
        "licence": None if spec.licence is None else f"code {spec.licence.code}, weights {spec.licence.weights}",
        "software": f"oncoseg-core {library_versions()['oncoseg-core']}, torch {library_versions()['torch']}",
    }
    _write(request, list(parts.values()), facts)
    files = [{"name": one.name, "sha256": one.sha256, "weights_sha256": one.weights} for one in parts.values()]
    return {"output": display_path(str(request.output)), "format": request.format, "files": files, **facts}


def _write(request: ModelExport, files: list[_File], facts: Mapping[str, str | None]) -> None:
    """Into a folder beside the output, which then gets its name."""
    output = request.output
    beside = output.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        for one in files:
            if request.format == "onnx":
                atomic_write(beside / f"{one.name}.onnx", one.content)
            else:
                atomic_write(beside / one.name / "1" / "model.onnx", one.content)
                atomic_write(beside / one.name / "config.pbtxt", _configuration(one))
        atomic_write(beside / "README.md", _readme(request, files, facts))
        if output.exists():
            raise UsageError(f"{display_path(str(output))} is there already; choose another `output`")
        beside.rename(output)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _configuration(one: _File) -> str:
    """What Triton reads: the tensors as the graph has them, a free first axis as -1, no batching of its own."""
    import onnx  # the model has just been exported with it

    graph = onnx.load_from_string(one.content).graph
    lines = [f'name: "{one.name}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    for kind, tensors in (("input", graph.input), ("output", graph.output)):
        for tensor in tensors:
            sizes = ", ".join(str(axis.dim_value or -1) for axis in tensor.type.tensor_type.shape.dim)
            lines.append(f'{kind} [ {{ name: "{tensor.name}" data_type: TYPE_FP32 dims: [ {sizes} ] }} ]')
    lines.append(f'parameters {{ key: "weights_sha256" value {{ string_value: "{one.weights}" }} }}')
    return "\n".join(lines) + "\n"


def _readme(request: ModelExport, files: list[_File], facts: Mapping[str, str | None]) -> str:
    rows = [f"| `{one.name}` | `{one.sha256}` | `{one.weights}` |" for one in files]
    told = [f"- {name}: {value}" for name, value in facts.items() if value is not None]
    use = (
        f"    tritonserver --model-repository=FOLDER\n    oncoseg segment IMAGE --model {request.model} "
        "--model-set engine=triton --model-set triton_url=http://127.0.0.1:8000 ...\n\n"
        "OncoSeg compares the weights' hash in the configuration with its own, and masks of a phantom, before it takes "
        "an answer."
        if request.format == "triton"
        else "Any runtime of ONNX loads these files."
    )
    lines = [
        f"# {request.model} as ONNX\n",
        "Written by `oncoseg export-model`. Research software: not for clinical use.\n",
        *told,
        "\n| file | SHA-256 of the file | SHA-256 of the weights in it |\n|---|---|---|",
        *rows,
        f"\n{use}",
    ]
    return "\n".join(lines) + "\n"
