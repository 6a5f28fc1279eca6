"""The summary of a run: what was done with what, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oncoseg_core import ModelSpec
from oncoseg_core.plugins import environment_summary, peak_memory_mb
from oncoseg_lora import TrainedParts, has_random_weights, leak_rows
from oncoseg_trainer.data.case_selection import BY_NAME, ChosenDataset
from oncoseg_trainer.data.scoring import summarise
from oncoseg_trainer.reporting.run_facts import RunFacts

FLOORS = {"box": "box itself", "nothing": "nothing"}
"""Masks that contain no model, and what tables call them."""


def summarise_run(facts: RunFacts) -> dict[str, Any]:
    """Everything that a reader of the scores has to know, as plain values."""
    settings, chosen, data, state = facts.settings, facts.chosen, facts.data, facts.state
    seconds = state.seconds
    train_rows = list(chosen.train_rows())
    several = len(chosen.datasets) > 1
    licence = facts.registry.get(ModelSpec, settings.model.name).licence
    return {
        "name": settings.name,
        "seed": settings.seed,
        "phase": settings.phase,
        "started_from": facts.ancestry.plain_values(),
        "model": {
            "name": settings.model.name,
            "weights_sha256": facts.weights_sha256,
            "licence": None if licence is None else licence.model_dump(),
            "random_weights": has_random_weights(facts.weights_sha256, facts.trained),
            "trained": facts.trained.model_dump(mode="json"),
            "policy": facts.policy,
            "parameters": facts.n_parameters,
            "trainable_parameters": facts.n_trainable,
        },
        "datasets": [
            {
                "name": each.name,
                "n_train_cases": len(each.train),
                "n_score_cases": len(each.scored),
                "prepared": each.dataset.choice.prepared is not None,
                "flags": flags_of(each),
                "left_out": dict(each.left_out),
                "weak": None
                if each.weak is None
                else {**each.weak.model_dump(), "n_train_cases": each.n_weak, "n_not_scored": each.n_not_scored},
            }
            for each in chosen.datasets
        ],
        "split": {
            "hash": state.split_hash,
            "frozen_sha256": chosen.split.sha256,
            "how": dict(chosen.split.how),
            "train_split": settings.data.train_split,
            "score_split": settings.data.score_split,
            "n_train_cases": len(train_rows),
            "validation_split": settings.data.validation_split,
            "n_score_cases": len(data.held_out),
            "n_validation_cases": 0 if data.validation is None else len(data.validation),
            "train_cases": [f"{row.dataset}/{row.case_id}" if several else row.case_id for row in train_rows],
            "not_scored": data.held_out.not_scored,
        },
        "leakage": {"allowed": settings.data.allow_leakage, "found": leak_rows(data.leaks)},
        "sampling": settings.sampling.model_dump(mode="json"),
        "augmentation": settings.augmentation.model_dump(mode="json"),
        "prompt": {
            **settings.prompts.score.model_dump(mode="json"),
            "per": {row["target"]: row["per"] for row in facts.adapted},
        },
        "training": {
            "steps": state.step,
            "epochs": facts.epochs,
            "n_samples": len(data.sampler),
            "processes": facts.processes,
            "precision": settings.training.precision,
            "lora_dropout": settings.lora.dropout,
            "base_dropout": settings.training.base_dropout,
            "skipped_steps": facts.skipped_steps,
            "stopped_early": facts.stopped_early,
            "kept": settings.training.keep,
            "best": facts.best,
        },
        "loading": {
            "workers": settings.training.workers,
            "wait_fraction": round(seconds.get("data_wait", 0.0) / max(seconds.get("training", 0.0), 1e-9), 4),
        },
        "n_slices": sum(row["n_slices"] for row in facts.adapted),
        "zero_shot": {"cases": facts.zero_shot, "mean": _means(settings.metrics, facts.zero_shot)},
        "adapted": {"cases": facts.adapted, "mean": _means(settings.metrics, facts.adapted)},
        "floors": _floors(settings.metrics, facts.adapted),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "warnings": list(state.warnings),
        "versions": environment_summary(facts.registry),
    }


def weights_caution(model: str, weights_sha256: str, trained: TrainedParts | None = None) -> str | None:
    """The loud warning about a model that began with random weights; None where they were read from a file.

    Args:
        model: its name.
        weights_sha256: of the base weights, or their seed.
        trained: what training changes; None for the untouched model.
    """
    if not has_random_weights(weights_sha256):
        return None
    if not has_random_weights(weights_sha256, trained):
        return (
            f"TRAINED FROM SCRATCH: {model} began with {weights_sha256}, and {trained}. The scores before mean nothing."
        )
    return (
        f"RANDOM WEIGHTS: {model} was built with {weights_sha256} and knows nothing. "
        "These scores mean nothing; the run only shows that everything runs."
    )


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """Warnings that go wherever the scores go: random weights, leakage, weak annotations, the floor, missing cases."""
    lines = []
    trained = summary["model"].get("trained")
    trained = None if trained is None else TrainedParts.model_validate(trained)
    caution = weights_caution(summary["model"]["name"], summary["model"]["weights_sha256"], trained)
    if caution is not None:
        lines.append(caution)
    started = summary.get("started_from")
    if started is not None:
        lines.append(
            f"Trained on from the adapter {started['parents'][0][:12]}: the scores before are that adapter's, not the "
            "untouched model's."
        )
    for certain, words in (
        (True, "LEAKAGE: these scores are no test. Scored, but trained on (data.allow_leakage)"),
        (False, "Leakage is suspected between what was trained on and what is scored"),
    ):
        leaks = [
            f"{leak['scored']} and {leak['trained']} ({leak['how']})"
            for leak in summary["leakage"]["found"]
            if leak["certain"] == certain
        ]
        if leaks:
            more = f"; and {len(leaks) - 5} more" if len(leaks) > 5 else ""
            lines.append(f"{words}: {'; '.join(leaks[:5])}{more}.")
    for dataset in summary["datasets"]:
        weak = dataset["weak"]
        if weak is not None:
            lines.append(
                f"Weak annotations: {weak['n_train_cases']} cases of {dataset['name']} have no masks and were trained "
                f"on as {'filled boxes' if weak['shape'] == 'box' else 'drawn'}, with loss weight {weak['weight']:g}; "
                f"{weak['n_not_scored']} that were held out are not scored."
            )
        lines += left_out_words(dataset["name"], dataset["left_out"], dataset["flags"], named=True)
    box, after = (
        part.get("dice")
        for part in (summary.get("floors", {}).get("box", {}), summary.get("adapted", {}).get("mean", {}))
    )
    if box and after and None not in (box["mean"], after["mean"]) and after["mean"] <= box["mean"]:
        lines.append(
            f"NO BETTER THAN THE PROMPT: the boxes that the model was given, taken as masks, have a Dice of "
            f"{box['mean']:.3f}; the adapted model has {after['mean']:.3f}."
        )
    if summary["split"]["not_scored"]:
        lines.append(
            f"{len(summary['split']['not_scored'])} held-out cases hold none of their targets and are not scored."
        )
    return lines


def flags_of(chosen: ChosenDataset) -> list[str]:
    """The settings of a dataset that are switched on, such as ``trust_image_grid``; no values, which may be private."""
    return sorted(name for name, value in chosen.dataset.settings.items() if value is True)


def left_out_words(dataset: str, left_out: Mapping[str, str], flags: Sequence[str], *, named: bool) -> list[str]:
    """Sentences on cases that are there and not used, ``named`` or counted, and on how the others were read."""
    lines = []
    by_name = [case for case, reason in left_out.items() if reason == BY_NAME]
    bad = [case for case in left_out if case not in by_name]
    for cases, why in ((by_name, "left out by name"), (bad, "left out because they cannot be used")):
        if cases:
            which = f": {', '.join(cases[:5])}{', …' if len(cases) > 5 else ''}" if named else ""
            lines.append(f"{len(cases)} cases of {dataset} are {why}{which}.")
    if flags:
        lines.append(f"{dataset} was read with {', '.join(flags)}.")
    return lines


def prompt_words(prompt: Mapping[str, Any]) -> str:
    """What was asked: how many prompts a slice, of which kind, and what each pointed at."""
    per = prompt.get("per", {})
    lesions = sorted(target for target, what in per.items() if what == "lesion")
    if not lesions:
        return f"one {prompt['name']} per labelled slice"
    if len(lesions) == len(per):
        return f"one {prompt['name']} per lesion on each labelled slice"
    return f"one {prompt['name']} per labelled slice, of {', '.join(lesions)} one per lesion on it"


def held_out_words(summary: Mapping[str, Any]) -> str:
    """What the scored cases are called: held out only where they were."""
    leaked = any(leak["certain"] for leak in summary["leakage"]["found"])
    return "cases that it was partly trained on (leakage)" if leaked else "held-out cases"


def _floors(metrics: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The mean scores of masks that contain no model, by the mask's name; only those that every case has."""
    names = [name for name in FLOORS if all(name in row.get("floors", {}) for row in rows)]
    return {name: _means(metrics, [row["floors"][name] for row in rows]) for name in names}


def _means(metrics: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: summarise([row[name] for row in rows]) for name in metrics}
