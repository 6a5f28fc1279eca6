"""The measurements of ``benchmarks/peers``: listed, run, and drawn to a page of the documentation from their records.

    python -m oncoseg_benchmarks.measurements_page                 # what there is, when it was recorded, in what time,
    [where to] python -m oncoseg_benchmarks.measurements_page run metrics     # run one, as its own help says
    python -m oncoseg_benchmarks.measurements_page page            # docs/measurements.md from benchmarks/results

Scripts and records are those of the checkout, in which this package is installed as editable.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oncoseg_benchmarks.record import RESULTS
from oncoseg_core import close_matches
from oncoseg_core.system import atomic_write

SCRIPTS = RESULTS.parent / "peers"
PAGE = RESULTS.parents[1] / "docs" / "measurements.md"
LIBRARIES = ("python", "torch", "numpy", "monai", "SimpleITK")
"""Of all versions in a record, those that the page shows."""

INTRODUCTION = """# What was measured

Drawn from the records in `benchmarks/results/` by `python -m oncoseg_benchmarks.measurements_page page`; no
number on this page was typed. Each record also holds all versions. Times of a shared machine are noisy: read ratios,
which come from one run each, rather than seconds. What has no record is listed at the end. Scores of models are on
[a page of their own](benchmark-results.md).
"""


def main() -> None:
    """List, run or draw."""
    parser = argparse.ArgumentParser(
        prog="python -m oncoseg_benchmarks.measurements_page",
        description=__doc__.partition("\n")[0],
        epilog="Without arguments: every script, when it was recorded, in what time, what it measures, [its records].",
    )
    actions = parser.add_subparsers(dest="action", metavar="run NAME | page")
    run = actions.add_parser("run", help="run one, with options of its own")
    run.add_argument("name", metavar="NAME")
    run.add_argument("options", nargs=argparse.REMAINDER)
    actions.add_parser("page", help=f"write {PAGE.name} from the records")
    chosen = parser.parse_args()
    if not SCRIPTS.is_dir():
        parser.error(f"{SCRIPTS}: no such folder; the scripts are in a checkout: pip install -e ./benchmarks there")
    if chosen.action == "run":
        if chosen.name not in scripts():
            parser.error(f"no script {chosen.name!r}{close_matches(chosen.name, scripts())}")
        sys.exit(subprocess.run([sys.executable, scripts()[chosen.name], *chosen.options], check=False).returncode)
    if chosen.action == "page":
        atomic_write(PAGE, page())
        return
    found = records()
    for name, path in scripts().items():
        own = {title: one for title, one in found.items() if one["script"] == name}
        date = max((one["date"] for one in own.values()), default="not recorded")
        took = max((one["seconds"] for one in own.values() if "seconds" in one), default=None)
        written = f" [{', '.join(f'{title}.json' for title in own)}]" if own else ""
        minutes = "" if took is None else f"{took / 60:.1f} min"
        sys.stdout.write(f"{name:20} {date:12} {minutes:>7}  {purpose(path)}{written}\n")


def scripts() -> dict[str, Path]:
    """The scripts that record something, by name."""
    return {
        path.stem: path
        for path in sorted(SCRIPTS.glob("*.py"))
        if "oncoseg_benchmarks.record" in path.read_text("utf-8")
    }


def purpose(path: Path) -> str:
    """The first line of a script's docstring, without running it."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0].replace("\n", " ")


def records() -> dict[str, dict[str, Any]]:
    """What the scripts recorded, by name, each with the ``script`` that its command ran; no benchmark runs."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text("utf-8"))
        for script in (Path(word).stem for word in one["command"].split() if word.endswith(".py")):
            found[path.stem] = {**one, "script": script}
    return found


def page() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION]
    known = scripts()
    for name, one in records().items():
        if isinstance(one["found"].get("rows"), list):  # scores of a benchmark, thousands of them
            continue
        machine, libraries = one["versions"]["machine"], one["versions"]["libraries"]
        versions = ", ".join(f"{library} {libraries[library]}" for library in LIBRARIES if library in libraries)
        parts.append(
            f"\n## {name}\n\n{purpose(known[one['script']])}\n\n"
            f"`{one['command']}`, {one['date']}{_took(one)}, {machine['processor']} with {machine['cores']} cores, "
            f"{machine['system']}; {versions}.\n\n| what | found |\n|---|---|\n"
        )
        parts += [f"| {what} | {value} |\n" for what, value in lines(one["found"])]
    missing = sorted(known.keys() - {one["script"] for one in records().values()})
    if missing:
        parts.append("\n## Not recorded\n\n")
        parts += [f"- `{name}`: {purpose(known[name])}\n" for name in missing]
    return "".join(parts)


def _took(one: Mapping[str, Any]) -> str:
    """In which time; the older records do not say it."""
    return f" in {one['seconds'] / 60:.1f} min" if "seconds" in one else ""


def lines(found: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a record with its place, in the record's order; a spread is one value."""
    for key, value in found.items():
        place = f"{within} › {key}" if within else str(key)
        place = place.replace("_", " ")
        if isinstance(value, Mapping) and value.keys() >= {"median", "min", "max", "n"}:
            spread = " to ".join(display_value(value[end]) for end in ("min", "max"))
            yield place, f"{display_value(value['median'])} (median of {value['n']}: {spread})"
        elif isinstance(value, Mapping):
            yield from lines(value, place)
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value, start=1):
                yield from (
                    lines(each, f"{place} {number}") if isinstance(each, Mapping) else [(place, display_value(each))]
                )
        else:
            yield place, display_value(value)


def display_value(value: Any) -> str:
    """A value as a reader wants it: four significant digits, lists in a row."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(display_value, value)) or "–"
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
