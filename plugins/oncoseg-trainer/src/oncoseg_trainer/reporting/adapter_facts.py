"""What goes with an adapter so that others can judge it: the split's sizes, the scores, the data. No case is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from oncoseg_core import MetricSpec, PromptGeneratorSpec, PromptKind
from oncoseg_core.data import Side
from oncoseg_lora import (
    SEQUENCES,
    DatasetFacts,
    Evidence,
    LeakageRecord,
    MetricRow,
    ScoreSummary,
    SplitRecord,
    SplitSide,
    Use,
)
from oncoseg_trainer.data.case_selection import ChosenDataset
from oncoseg_trainer.data.case_source import CaseRow
from oncoseg_trainer.data.scoring import summarise
from oncoseg_trainer.reporting.run_facts import RunFacts
from oncoseg_trainer.reporting.summary import flags_of, left_out_words

SCORING = (
    "Each slice that holds the object got a prompt of its own, made from the reference (from its place, or for text "
    "from its name), and a case's score is over these slices together. Slices without the object are not scored: "
    "nothing is said of how often something is marked where there is nothing."
)


def evidence_of(facts: RunFacts) -> Evidence:
    """The evidence for an adapter.

    Where training started from another adapter, the scores before are that adapter's, and are left out.
    """
    chosen, certain = facts.chosen, [leak.certain for leak in facts.data.leaks]
    trained = [each.dataset.spec for each in chosen.datasets]
    specs = list({spec.name: spec for spec in (*facts.ancestry.specs, *trained)}.values())
    return Evidence(
        splits=SplitRecord(
            sha256=chosen.split.sha256,
            how=str(chosen.split.how.get("how", "file")),  # only the word: the settings may hold a path
            sides=tuple(side for each in chosen.datasets for side in _sides(facts, each)),
        ),
        metrics=tuple(_metric_rows(facts)),
        leakage=LeakageRecord(n_certain=sum(certain), n_suspected=len(certain) - sum(certain)),
        prompts=_prompts(facts),
        datasets=tuple(DatasetFacts(name=s.name, licence=s.licence, citation=s.citation, url=s.url) for s in specs),
        notes=(SCORING, *_notes(facts)),
    )


def _prompts(facts: RunFacts) -> tuple[PromptKind | Literal["sequences"], ...]:
    """The kinds of prompt that training drew, and whether it followed objects."""
    prompts = facts.settings.prompts
    specs = [facts.registry.get(PromptGeneratorSpec, choice.name) for choice in prompts.train]
    kinds = dict.fromkeys(kind for spec in specs for kind in spec.makes)
    return (*kinds, SEQUENCES) if prompts.sequences.share else (*kinds,)


def _sides(facts: RunFacts, each: ChosenDataset) -> list[SplitSide]:
    data = facts.settings.data
    uses: list[tuple[Use, Side | None, list[CaseRow]]] = [
        ("training", data.train_split, each.train),
        ("validation", data.validation_split, each.validation),
        ("scoring", data.score_split, each.scored),
    ]
    return [
        SplitSide(
            dataset=each.name,
            side=side,
            used_for=use,
            n_cases=len(rows),
            n_patients=len({row.patient_id for row in rows}),
            flags=tuple(flags_of(each)),
        )
        for use, side, rows in uses
        if side is not None and rows
    ]


def _metric_rows(facts: RunFacts) -> list[MetricRow]:
    only = facts.chosen.datasets[0].name  # rows name the dataset where there are several
    prompts = facts.settings.prompts.score
    kinds = "+".join(facts.registry.get(PromptGeneratorSpec, prompts.name).makes)
    metric_rows = []
    for dataset, target in sorted({(row.get("dataset", only), row["target"]) for row in facts.adapted}):
        before, after = (
            [row for row in rows if (row.get("dataset", only), row["target"]) == (dataset, target)]
            for rows in (facts.zero_shot, facts.adapted)
        )
        for name in facts.settings.metrics:
            spec = facts.registry.get(MetricSpec, name)
            metric_rows.append(
                MetricRow(
                    metric=name,
                    unit=spec.unit,
                    better=spec.better,
                    dataset=dataset,
                    target=target,
                    split=facts.settings.data.score_split,
                    prompt=kinds + ", per lesion" * (after[0]["per"] == "lesion"),
                    prompt_settings=dict(prompts.settings),
                    n_cases=len(after),
                    before=None if facts.ancestry.folder is not None else _summary([row[name] for row in before]),
                    after=_summary([row[name] for row in after]),
                )
            )
    return metric_rows


def _summary(values: Sequence[float | None]) -> ScoreSummary:
    """A value that is no finite number counts as undefined: a metric's slip must not cost a finished run's adapter."""
    return ScoreSummary.model_validate(summarise([v if v is not None and math.isfinite(v) else None for v in values]))


def _notes(facts: RunFacts) -> list[str]:
    notes = [
        f"Its training started from the adapter whose manifest has the SHA-256 {parent}."
        for parent in facts.ancestry.parents[:1]
    ]
    notes += [
        f"{each.n_weak} cases of {each.name} have no masks: they were trained on as "
        f"{'filled boxes' if each.weak.shape == 'box' else 'drawn'}, with loss weight {each.weak.weight:g}."
        for each in facts.chosen.datasets
        if each.weak is not None
    ]
    for each in facts.chosen.datasets:
        notes += left_out_words(each.name, each.left_out, flags_of(each), named=False)
    if facts.settings.training.base_dropout:
        notes.append("The base model's own dropout was on in training (training.base_dropout).")
    not_scored = len(facts.data.held_out.not_scored)
    if not_scored:
        notes.append(f"{not_scored} held-out cases hold none of their targets and are not scored.")
    return notes
