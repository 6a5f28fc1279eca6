"""The sample scans' scores, as ``oncoseg-bench samples`` makes them, with the time and memory that it took.

docs/benchmark-results.md is drawn from the record (``python docs/benchmark_results.py``).

    python benchmarks/peers/bench_samples.py
    python benchmarks/peers/bench_samples.py --adapter runs/quickstart/adapter

With an adapter: one box per labelled slice, 2 pixels wide, and what the adapter was trained on is marked, not refused.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from oncoseg_benchmarks.record import record

KEPT = ("prompt", "level", "leak", "model", "n_rows", "n_missed", "pooled", "metrics")
IN_ROWS = ("model", "dataset", "case", "target", "prompt", "level", "slices", "leak")
SCORES = ("dice", "nsd")


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="none besides it", help="what else the machine did, for the record")
    parser.add_argument("--adapter", type=Path, help="score this adapter of LiteMedSAM")
    options = parser.parse_args()
    name, recorded, more = "bench_samples", "oncoseg-bench samples", []
    if options.adapter is not None:
        models = json.dumps([{"name": "litemedsam", "adapter": str(options.adapter.resolve()), "label": "quickstart"}])
        prompts = json.dumps([{"kind": "gt-box", "margin_px": 2}])
        more = ["--set", f"models={models}", "--set", f"prompts={prompts}", "--set", "leakage=mark"]
        name, recorded = (
            "bench_samples_adapted",
            "python benchmarks/peers/bench_samples.py --adapter runs/quickstart/adapter",
        )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.perf_counter()
        command = [sys.executable, "-m", "oncoseg_benchmarks", "samples", "--output", str(run), *more]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        with (run / "results.csv").open(encoding="utf-8", newline="") as stream:
            rows = [_row(each) for each in csv.DictReader(stream)]
    found = {
        "seconds": round(seconds),
        "cpu_seconds": round(used.ru_utime + used.ru_stime),
        "load": options.load,
        "peak_mb": round(used.ru_maxrss / 1024),
        "scored_at_commit": summary["commit"],
        "cases_sha256": summary["cases_sha256"],
        "weights": summary["weights"],
        "config_metrics": summary["config"]["metrics"],
        "groups": [{key: each[key] for key in KEPT} for each in summary["groups"] if each["by"] == "all"],
        "rows": rows,
    }
    sys.stdout.write(f"{record(name, recorded, found)}\n")


def _row(row: dict[str, str]) -> dict[str, Any]:
    scores = {name: round(float(row[name]), 4) if row[name] else None for name in SCORES}
    return {**{name: row[name] for name in IN_ROWS}, **scores}


if __name__ == "__main__":
    main()
