"""Two thousand steps of a tiny model, with scores after every epoch and a checkpoint every 20 steps: does memory grow?

python benchmarks/peers/long_run.py
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tiny_run import write_tiny_run

from oncoseg_benchmarks.record import record
from oncoseg_core import load_plugins
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train

STEPS_PER_EPOCH = 9
WARM = 300
"""Steps until caches are filled."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    seen: list[tuple[float, int]] = []

    def look() -> bool:
        """Asked after every step (and every scored case), and never stops the run."""
        seen.append((resident_mb(), open_files()))
        return False

    with tempfile.TemporaryDirectory() as folder:
        epochs = -(-options.steps // STEPS_PER_EPOCH)
        site, config = write_tiny_run(Path(folder), {"training.epochs": epochs, "training.checkpoint_every": 20})
        sys.path.insert(0, str(site))
        gc.collect()
        started = time.perf_counter()
        outcome = train(load_settings(str(config), []), load_plugins(), should_stop=look)
        seconds = time.perf_counter() - started
    if outcome.summary is None:
        raise RuntimeError("the run was stopped")
    steps = outcome.summary["training"]["steps"]
    at = np.linspace(0, steps, len(seen))  # looks are spread evenly enough over the steps
    warm = at > WARM
    memory, files = np.array(seen).T
    found = {
        "steps": steps,
        "looks": len(seen),
        "memory_mb_per_100_steps": round(float(np.polyfit(at[warm], memory[warm], 1)[0]) * 100, 4),
        "memory_mb": {"warm": round(memory[warm][0], 1), "end": round(memory[-1], 1), "most": round(memory.max(), 1)},
        "open_files": {"warm": int(files[warm][0]), "end": int(files[-1]), "most": int(files.max())},
        "seconds": round(seconds, 1),
    }
    print(found)
    if not options.dry:
        print(record("long_run", f"python benchmarks/peers/{Path(__file__).name} --steps {options.steps}", found))


def resident_mb() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    """File handles of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    main()
