"""An adapter whose weights are any bytes: nothing here loads them."""

import hashlib
import json


def adapter_files(weights=b"weights" * 1000, **changes):
    """An adapter's files by name, as ``save_adapter`` writes them, with changes to the manifest."""
    files = {
        "adapter_model.safetensors": weights,
        "adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": null}',
        "trained_on.txt": b"".join(b"%s\n" % (c * 64).encode() for c in "ab"),
    }
    manifest = {
        "model": "tiny",
        "base_weights_sha256": "e" * 64,
        "lora": {"rank": 16, "alpha": 32, "dropout": 0.1, "policy": "lora"},
        "paths": {"ct": {}},
        "datasets": ["msd-lung"],
        "metrics": [
            {"metric": "dice", "unit": "1", "better": "higher", "dataset": "msd-lung", "target": target, "split": "test",
             "prompt": "box", "n_cases": n, "before": {"mean": 0.4, "n_cases": n}, "after": {"mean": mean, "n_cases": n}}
            for target, mean, n in (("lung tumour", 0.6, 3), ("nodule", 0.8, 1))
        ],
        "versions": {"oncoseg-core": "0.1.0"},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        **changes,
    }  # fmt: skip
    return {
        **files,
        "oncoseg.json": json.dumps(manifest).encode(),
        "README.md": b"---\nlicense: other\n---\n# An adapter\n",
    }


def in_folder(prefix, files):
    return {f"{prefix}/{name}": content for name, content in files.items()}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
