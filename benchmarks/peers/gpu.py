"""Everything a GPU must show, in one command of ten minutes: SAM3's and LiteMedSAM's speed and memory.

Encoding, first and next clicks, LoRA steps in each precision with and without activation checkpointing, the tracker,
attention kernels, ``torch.compile``, two ranks, and the trainer beside a bare loop. Weights are random, and images
noise or generated, neither of which changes time or memory; nothing is downloaded.

The record is written after each part. A run that is cut off, by a signal or because the machine goes, leaves what it
had measured; started again it takes the missing parts up (``--anew`` starts over). A part that runs out of memory, or
takes too long, is a result of its own and does not harm the others.

    python benchmarks/peers/gpu.py                                  # full size, on a GPU
    python benchmarks/peers/gpu.py --size tiny --device cpu --repeats 2   # proves the script, not the model
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from gpu_parts import MODELS, Options, all_parts, work
from rich.console import Console
from rich.table import Table

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_core import ModelSpec, load_plugins

LEAST_SECONDS = 5.0
"""With less time left no part is begun."""
START_SECONDS = 60.0
"""What a new worker may take to import what it needs, beside its first part."""
PATIENCE = {"cuda": 1, "cpu": 3}
"""How many times its seconds, which are for a GPU, a part gets."""
SETTLED = ("done", "out of memory")
"""Results that a later run keeps; what was skipped or failed is tried again."""


class Worker:
    """The process that measures. One that hangs or dies is replaced, and the parts after it go on."""

    def __init__(self, options: Options, policies: list[str]) -> None:
        self._arguments = options, policies
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def measure(self, name: str, seconds: float) -> dict[str, Any]:
        """What a part gives, or that it took longer, or took the process with it."""
        if self._process is None:
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=work, args=(theirs, *self._arguments))
            self._process.start()
            theirs.close()
            seconds += START_SECONDS
        found: dict[str, Any]
        try:
            self._pipe.send(name)
            if self._pipe.poll(seconds):
                found = self._pipe.recv()
            else:
                found = {"status": "skipped", "reason": f"took longer than its {seconds:.0f} s"}
        except (EOFError, OSError):
            self._process.join()
            found = {"status": "failed", "reason": f"the process ended with {self._process.exitcode}"}
        if found["status"] in {"skipped", "failed"}:
            self._end()  # what it left on the device may be anything
        return found

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


class Measured:
    """The record: its parts so far, written after each."""

    def __init__(self, options: Options, command: str, folder: Path) -> None:
        self._name, self._command, self._folder = f"gpu_{options.size}_{options.device}", command, folder
        self.found: dict[str, Any] = {
            "model": MODELS[options.size],
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "torch": torch.__version__,
            "repeats": options.repeats,
            "complete": False,
            "parts": {},
        }

    def resume(self) -> int:
        """Take over the settled parts of a record of the same model, device and torch; how many."""
        path = self._folder / f"{self._name}.json"
        if not path.is_file():
            return 0
        before = json.loads(path.read_text(encoding="utf-8"))["found"]
        if any(before.get(key) != self.found[key] for key in ("model", "device", "torch", "repeats")):
            return 0
        self.parts.update({name: part for name, part in before["parts"].items() if part["status"] in SETTLED})
        return len(self.parts)

    @property
    def parts(self) -> dict[str, Any]:
        """By name."""
        parts: dict[str, Any] = self.found["parts"]
        return parts

    def keep(self, name: str, part: dict[str, Any]) -> None:
        """Add a part and write the record anew; the file is replaced in one step."""
        self.parts[name] = part
        record(self._name, self._command, self.found, self._folder)

    def finish(self) -> Path:
        """Write that nothing is missing, if so."""
        self.found["complete"] = all(part["status"] in SETTLED for part in self.parts.values())
        return record(self._name, self._command, self.found, self._folder)


def main() -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=MODELS, default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.5, help="after which no part is begun and none goes on")
    parser.add_argument("--repeats", type=int, default=20, help="timed calls of each measurement, where time allows")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="parts with one of these words in their names")
    parser.add_argument("--anew", action="store_true", help="measure again what a record has already")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device cpu --size tiny proves the script, not the model")
    deadline = time.monotonic() + 60 * arguments.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = Options(arguments.size, arguments.device, arguments.repeats, seconds=10.0)
    policies = list(load_plugins().get(ModelSpec, MODELS[options.size]).lora.policies)
    parts = all_parts(policies)
    names = [name for name in parts if not arguments.only or any(word in name for word in arguments.only)]
    if not names:
        parser.error(f"no part has one of these words in its name; there are: {', '.join(parts)}")
    command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
    measured = Measured(options, command, arguments.output)
    before = 0 if arguments.anew else measured.resume()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if before:
        console.print(f"{before} parts were measured before and stay; --anew measures them again.")
    with Worker(options, policies) as worker:
        for name in [name for name in names if name not in measured.parts]:
            left = deadline - time.monotonic()
            if left < LEAST_SECONDS:
                part = {"status": "skipped", "reason": f"the {arguments.minutes:g} minutes are over"}
            else:
                console.print(f"{name} ...")
                part = worker.measure(name, min(PATIENCE[options.device] * parts[name].seconds, left))
            measured.keep(name, part)
    path = measured.finish()
    console.print(table(measured.parts))
    console.print(f"Written to {path}. Please send it to us: it is what docs/which-gpu.md lacks.", soft_wrap=True)


def table(parts: dict[str, Any]) -> Table:
    """One line per measurement: p50 and p95, memory, or why there is none."""
    lines = Table("part", "what", "p50 ms", "p95 ms", "GiB", "more", box=None)
    for name, part in parts.items():
        if part["status"] != "done":
            lines.add_row(name, part["status"], "", "", "", part.get("reason", ""))
            continue
        timed = {key: value for key, value in part.items() if isinstance(value, dict) and "p50_ms" in value}
        for what, one in {**({"": part} if "p50_ms" in part else {}), **timed}.items():
            memory = f"{one['allocated_gib']}" if "allocated_gib" in one else ""
            more = f"{one['images_per_second']} images/s" if "images_per_second" in one else ""
            lines.add_row(name, what, f"{one['p50_ms']:.1f}", f"{one['p95_ms']:.1f}", memory, more)
        if not timed and "p50_ms" not in part:
            rest = {key: value for key, value in part.items() if key not in {"status", "seconds"}}
            lines.add_row(name, "", "", "", "", json.dumps(rest)[:200])
    return lines


if __name__ == "__main__":
    main()
