"""``oncoseg-bench``: light until a benchmark is really run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oncoseg_core import load_plugins
from oncoseg_core.cli import AllowBroken, Overrides, default_command_app, reserved_stdout, run_app, say, say_json
from oncoseg_core.system import json_text


class Test(StrEnum):
    """How two models are compared."""

    wilcoxon = "wilcoxon"
    permutation = "permutation"


app = default_command_app()


@app.command(name="run", epilog="Example: oncoseg-bench samples --output runs/samples")
def bench(
    config: Annotated[str, typer.Argument(help="A YAML file, or a built-in name: smoke, samples, paper.")],
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run's folder, as --set output=.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    allow_broken_plugins: AllowBroken = False,
) -> None:
    """Score models on registered datasets, by kind of prompt; exits 1 when a case failed.

    Several processes: torchrun --nproc-per-node 4 -m oncoseg_benchmarks CONFIG

    Two runs against each other: oncoseg-bench compare A B. Scores again from the saved masks: oncoseg-bench verify RUN.
    """
    from oncoseg_benchmarks.config.settings import load_settings

    settings = load_settings(config, [*(overrides or []), *([f"output={json_text(str(output))}"] if output else [])])
    registry = load_plugins()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_benchmarks.run.run import prepare
    from oncoseg_benchmarks.run.run import run as run_bench
    from oncoseg_core.cli import progress_bar

    with reserved_stdout(), progress_bar() as progress:
        prepared = prepare(settings, registry, resume=resume, progress=progress)
        outcome = run_bench(prepared, progress)
    if outcome.missing:
        # Ends with 0 whatever failed: torchrun would kill the others. The last one tells, and ends with 1.
        say(
            f"This process is done; {outcome.missing} scorings are left to others, {outcome.failed} failed so far. "
            f"Results: {settings.output}"
        )
        return
    from oncoseg_benchmarks.report.summary import finish
    from oncoseg_benchmarks.report.terminal import print_summary

    with reserved_stdout():
        summary = finish(prepared)
    if as_json:
        say_json(summary)
    else:
        print_summary(summary, settings.output)
    if outcome.failed:
        raise typer.Exit(1)


@app.command(epilog="Example: oncoseg-bench compare runs/before runs/after --metric nsd")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The folder of a finished run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, on the same cases.")],
    metric: Annotated[str, typer.Option(help="The score that is compared.")] = "dice",
    method: Annotated[Test, typer.Option(help="The paired test, two-sided, by patients.")] = Test.wilcoxon,
    model_a: Annotated[str | None, typer.Option(help="The model of A, where it has several.")] = None,
    model_b: Annotated[str | None, typer.Option(help="The model of B, where it has several.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="For the permutation test.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test whether the models of two runs differ on the same cases and prompts; p values are corrected by Holm."""
    from oncoseg_benchmarks.report.terminal import print_comparisons
    from oncoseg_benchmarks.run.compare import compare_runs

    found, notes = compare_runs(first, second, metric, (model_a, model_b), method=method.value, seed=seed)
    if as_json:
        say_json({"comparisons": [each.values() for each in found], "notes": notes})
    else:
        print_comparisons(found, metric, notes)


@app.command(epilog="Example: oncoseg-bench verify runs/samples")
def verify(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute every score again from the saved masks, and compare; exits 1 when one differs."""
    from oncoseg_benchmarks.run.verify import verify as verify_run
    from oncoseg_core.cli import progress_bar

    with reserved_stdout(), progress_bar() as progress:
        found = verify_run(run, load_plugins(), progress)
    if as_json:
        mismatches = [mismatch._asdict() for mismatch in found.mismatches]
        say_json({"rows": found.rows, "scores": found.scores, "mismatches": mismatches})
    else:
        for mismatch in found.mismatches:
            say(f"{mismatch.row}: {mismatch.problem}")
        say(f"{found.scores} scores of {found.rows} rows computed again: {len(found.mismatches)} differ")
    if found.mismatches:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the program."""
    run_app(app)
