"""SAM3 at full size on a CPU, as a user would call it: one CT slice, a text and a box, a mask file; time and memory.

The weights are random (Meta's are gated), so the masks mean nothing. Run: ``python benchmarks/peers/sam3_segment.py``,
with the sample scans fetched (``oncoseg samples fetch``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oncoseg_benchmarks.record import record
from oncoseg_datasets.sources.samples import samples_directory

PROMPTS = {
    "a text": ["--text", "lung tumour"],
    "a text and a box": ["--text", "lung tumour", "--box", "300,180,345,225"],
}


def main() -> None:
    """Measure each prompt in a process of its own, and record it."""
    image = samples_directory() / "lung1_image.nrrd"
    found = {what: segment(image, prompt) for what, prompt in PROMPTS.items()}
    print(json.dumps(found, indent=2))
    print(record("sam3_segment", "python benchmarks/peers/sam3_segment.py", found))


def segment(image: Path, prompt: list[str]) -> dict[str, object]:
    """One call of the command: seconds in all, the process's peak memory, and what it reported."""
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.nii.gz"
        command = [
            sys.executable, "-c", "from oncoseg_core.cli.app import main; main()", "segment", str(image),
            "--model", "sam3", "--model-set", "weights=random:0", "--slice", "33", "--zoom", "off",
            *prompt, "--output", str(mask), "--json",
        ]  # fmt: skip
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output = child.stdout.read() if child.stdout is not None else ""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        if status or not mask.exists():
            raise SystemExit(f"the command ended with status {status} and wrote {'a' if mask.exists() else 'no'} mask")
        report = json.loads(output)
        return {
            "seconds": round(seconds, 1),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_memory_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
            "mask_bytes": mask.stat().st_size,
            "report": {
                key: report[key]
                for key in ("size", "model's own score", "presence", "smallest resolvable lesion")
                if key in report
            },
        }


if __name__ == "__main__":
    main()
