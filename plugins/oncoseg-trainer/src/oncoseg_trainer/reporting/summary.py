"""The summary of a run: what was done with what, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oncoseg_core.data import leak_rows
from oncoseg_core.inference import summarise
from oncoseg_core.plugins import environment_summary, peak_memory_mb

if TYPE_CHECKING:
    from oncoseg_trainer.loop.run import Run


def summarise_run(run: Run, zero_shot: Sequence[dict[str, Any]], adapted: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that a reader of the scores has to know, as plain values."""
    settings, chosen, seconds = run.settings, run.chosen, run.state.seconds
    train_rows = list(chosen.train_rows())
    several = len(chosen.datasets) > 1
    return {
        "name": settings.name,
        "seed": settings.seed,
        "phase": settings.phase,
        "started_from": run.ancestry.told(),
        "model": {
            "name": settings.model.name,
            "weights_sha256": run.model.weights_sha256,
            "random_weights": has_random_weights(run.model.weights_sha256),
            "policy": run.model.lora_settings.policy,
            "parameters": sum(p.numel() for p in run.model.parameters()),
            "trainable_parameters": sum(p.numel() for p in run.trainable.values()),
        },
        "datasets": [
            {
                "name": each.name,
                "n_train_cases": len(each.train),
                "n_score_cases": len(each.scored),
                "prepared": each.dataset.choice.prepared is not None,
                "skipped_when_prepared": each.dataset.skipped,
                "weak": None
                if each.weak is None
                else {**each.weak.model_dump(), "n_train_cases": each.n_weak, "n_not_scored": each.n_not_scored},
            }
            for each in chosen.datasets
        ],
        "split": {
            "hash": run.state.split_hash,
            "frozen_sha256": chosen.split.sha256,
            "how": dict(chosen.split.how),
            "train_split": settings.data.train_split,
            "score_split": settings.data.score_split,
            "n_train_cases": len(train_rows),
            "validation_split": settings.data.validation_split,
            "n_score_cases": len(run.held_out),
            "n_validation_cases": 0 if run.validation is None else len(run.validation),
            "train_cases": [f"{row.dataset}/{row.case_id}" if several else row.case_id for row in train_rows],
            "not_scored": run.held_out.not_scored,
        },
        "leakage": {"allowed": settings.data.allow_leakage, "found": leak_rows(run.leaks)},
        "sampling": settings.sampling.model_dump(mode="json"),
        "augmentation": settings.augmentation.model_dump(mode="json"),
        "prompt": settings.prompts.score.model_dump(mode="json"),
        "training": {
            "steps": run.state.step,
            "epochs": run.epochs,
            "n_samples": len(run.sampler),
            "processes": run.processes.world_size,
            "precision": settings.training.precision,
            "skipped_steps": run.stepper.skipped,
            "stopped_early": run.selection.says_stop and run.state.step < run.total_steps,
            "kept": settings.training.keep,
            "best": _best(run),
        },
        "loading": {
            "workers": settings.training.workers,
            "wait_fraction": round(seconds.get("data_wait", 0.0) / max(seconds.get("training", 0.0), 1e-9), 4),
        },
        "n_slices": sum(row["n_slices"] for row in adapted),
        "zero_shot": {"cases": zero_shot, "mean": _means(run.metrics, zero_shot)},
        "adapted": {"cases": adapted, "mean": _means(run.metrics, adapted)},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "warnings": list(run.state.warnings),
        "versions": environment_summary(run.registry),
    }


def _best(run: Run) -> dict[str, Any] | None:
    """The best epoch by the validation cases; None where there are none."""
    selection = run.selection
    if selection.best_step is None:
        return None
    return {
        "epoch": selection.best_step // run.plan.steps_per_epoch,
        "step": selection.best_step,
        "validation_dice": selection.best,
    }


def has_random_weights(weights_sha256: str) -> bool:
    """Whether a model's weights were drawn instead of read from a file."""
    return weights_sha256.startswith("random:")


def random_weights_words(model: str, weights_sha256: str) -> str:
    """What is said, loudly, of a model with random weights."""
    return (
        f"RANDOM WEIGHTS: {model} was built with {weights_sha256} and knows nothing. "
        "These scores mean nothing; the run only shows that everything runs."
    )


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """What must be said wherever the scores are shown: random weights, leakage, weak annotations, missing cases."""
    said = []
    if has_random_weights(summary["model"]["weights_sha256"]):
        said.append(random_weights_words(summary["model"]["name"], summary["model"]["weights_sha256"]))
    started = summary.get("started_from")
    if started is not None:
        said.append(
            f"Trained on from the adapter {started['parents'][0][:12]}: the scores before are that adapter's, not the "
            "untouched model's."
        )
    found = summary["leakage"]["found"]
    for certain, words in (
        (True, "LEAKAGE: these scores are no test. Scored, but trained on (data.allow_leakage)"),
        (False, "Leakage is suspected between what was trained on and what is scored"),
    ):
        leaks = [
            f"{leak['scored']} and {leak['trained']} ({leak['how']})" for leak in found if leak["certain"] == certain
        ]
        if leaks:
            more = f"; and {len(leaks) - 5} more" if len(leaks) > 5 else ""
            said.append(f"{words}: {'; '.join(leaks[:5])}{more}.")
    for dataset in summary["datasets"]:
        weak = dataset["weak"]
        if weak is not None:
            said.append(
                f"Weak annotations: {weak['n_train_cases']} cases of {dataset['name']} have no masks and were trained "
                f"on as {'filled boxes' if weak['shape'] == 'box' else 'drawn'}, with loss weight {weak['weight']:g}; "
                f"{weak['n_not_scored']} that were held out are not scored."
            )
        if dataset["skipped_when_prepared"]:
            said.append(
                f"{len(dataset['skipped_when_prepared'])} cases of {dataset['name']} could not be read when it was "
                "prepared, and are missing."
            )
    if summary["split"]["not_scored"]:
        said.append(
            f"{len(summary['split']['not_scored'])} held-out cases hold none of their targets and are not scored."
        )
    return said


def held_out_words(summary: Mapping[str, Any]) -> str:
    """What the scored cases are called: held out only where they were."""
    leaked = any(leak["certain"] for leak in summary["leakage"]["found"])
    return "cases that it was partly trained on (leakage)" if leaked else "held-out cases"


def _means(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: summarise([row[name] for row in rows]) for name in metrics}
