"""The model card of an adapter: ``README.md`` with the front matter that the Hugging Face hub reads.

It repeats the manifest for people, and adds what only the trainer knows: the licences and citations of the data. It
names neither cases nor patients. People edit it by hand, so the manifest does not hash it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

import yaml

from oncoseg_core import ModelSpec, PromptKind, Record
from oncoseg_core.system import printable
from oncoseg_lora.manifest import AdapterManifest, LeakageRecord, MetricRow, ScoreSummary, SplitRecord

_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)|^[#+-]|(?<=:)/(?=/)|(?<=www)\.", re.ASCII)
"""What begins markup: also an address, which is a link by itself."""

LIMITS = (
    (
        "For research only. This is no medical device: it has no clinical clearance and must not guide the care of a "
        "patient. Look at every mask."
    ),
    (
        "It is meant for images like those it was trained on: the modalities above, with the same normalisation. On "
        "other scanners, protocols, organs or patients nothing is known of it until it is measured there."
    ),
    "The score that a model gives its own mask is an estimate of its overlap, not the chance that the mask is right.",
)


class DatasetFacts(Record):
    """What has to be said of a dataset that was used."""

    name: str
    licence: str
    citation: str
    url: str


class Evidence(Record):
    """What a trainer tells besides the weights: how it was split, what was scored, which data, under which licence.

    ``splits``, ``metrics``, ``leakage`` and ``prompts`` go to the manifest and the card, the rest to the card alone.
    ``prompts`` are the kinds that training drew, and ``SEQUENCES`` where it followed objects. ``notes`` are
    sentences that a reader of the scores needs. ``licence`` is the adapter's own, as the hub spells it (``cc-by-4.0``);
    ``other`` leaves it to the author.
    """

    splits: SplitRecord | None = None
    metrics: tuple[MetricRow, ...] = ()
    leakage: LeakageRecord | None = None
    prompts: tuple[PromptKind | Literal["sequences"], ...] = ()
    datasets: tuple[DatasetFacts, ...] = ()
    notes: tuple[str, ...] = ()
    licence: str = "other"


def render_card(manifest: AdapterManifest, base: ModelSpec, evidence: Evidence) -> str:
    """The card's text.

    Args:
        manifest: the adapter's.
        base: the record of the model that was adapted.
        evidence: what the trainer told.
    """
    return (
        "\n\n".join(
            [
                _front_matter(manifest, base, evidence),
                f"# A LoRA adapter for {_text(base.name)}",
                _base(manifest, base),
                _paths(manifest),
                _data(manifest, evidence),
                _scores(manifest),
                *(["\n".join(f"- {_text(note)}" for note in evidence.notes)] if evidence.notes else []),
                _loading(manifest),
                _bullets("## Limits", LIMITS),
                _bullets(
                    "## Software", (_text(f"{name} {version}") for name, version in sorted(manifest.versions.items()))
                ),
            ]
        )
        + "\n"
    )


def _front_matter(manifest: AdapterManifest, base: ModelSpec, evidence: Evidence) -> str:
    fields: dict[str, object] = {"library_name": "peft"}
    if base.hub_id is not None:
        fields["base_model"] = base.hub_id
    fields["license"] = evidence.licence
    fields["tags"] = ["oncoseg", "lora", "medical", "image-segmentation", base.name, *sorted(manifest.paths)]
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _base(manifest: AdapterManifest, base: ModelSpec) -> str:
    lora = manifest.lora
    whole = base.lora.policies.get(lora.policy or "", ())
    layers = _listed(base.lora.targets)
    known = f"{_code(manifest.base_weights_sha256)}: the SHA-256 of their file, or the seed of random ones"
    return _bullets(
        "## What was adapted",
        (
            f"Model: {_code(base.name)}. {_text(base.summary)}",
            f"Base weights: {_text(base.weights)}.",
            *_licence(base),
            f"They are known by {known}. The adapter loads on no others.",
            f"LoRA: rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout:g}, on the linear layers {layers}.",
            *([f"{manifest.trained}.".capitalize()] if manifest.trained is not None else []),
            *([f"Prompts in training: {', '.join(manifest.prompts)}."] if manifest.prompts else []),
            f"Policy: {_code(lora.policy)}; trained whole besides: {_listed(whole) or 'nothing'}.",
        ),
    )


def _licence(base: ModelSpec) -> list[str]:
    licence = base.licence
    if licence is None:
        return ["Licence of the model: not stated in its record; ask its authors."]
    barred = [f"It bars {_text(licence.bars)}."] if licence.bars else []
    commercial = ["Commercial use is not allowed."] if licence.non_commercial else []
    terms = f"Licence of the model: code {_text(licence.code)}; weights {_text(licence.weights)}."
    return [" ".join([terms, *barred, *commercial])]


def _paths(manifest: AdapterManifest) -> str:
    rows = [
        (
            modality,
            "; ".join(f"{part}: {settings}" for part, settings in sorted(path.normalizers.items())) or "as by default",
            "as by default" if path.channels is None else str(path.channels),
            path.fit,
        )
        for modality, path in sorted(manifest.paths.items())
    ]
    return f"## Images it takes\n\n{_table(('modality', 'normalizer', 'channels', 'fit'), rows)}"


def _data(manifest: AdapterManifest, evidence: Evidence) -> str:
    trained = manifest.datasets
    parts = ["## Data"]
    if trained is None:
        parts.append("Which data it was trained on was not recorded.")
    else:
        parts.append(
            f"Trained on {_listed(trained)}. `trained_on.txt` has the content hash of every case, so that nobody "
            "scores the adapter on them unawares."
        )
    if evidence.datasets:
        rows = [(facts.name, facts.licence, facts.citation, facts.url) for facts in evidence.datasets]
        parts.append(_table(("dataset", "licence", "citation", "where"), rows))
    splits = manifest.splits
    if splits is None:
        parts.append("The split was not recorded.")
    else:
        parts.append(f"Split: {_text(splits.how)}, SHA-256 `{splits.sha256}`.")
        sides = [(s.dataset, s.side, s.used_for, str(s.n_cases), str(s.n_patients)) for s in splits.sides]
        parts.append(_table(("dataset", "split", "used for", "cases", "patients"), sides))
    return "\n\n".join(parts)


def _scores(manifest: AdapterManifest) -> str:
    parts = ["## Scores"]
    if not manifest.metrics:
        return "\n\n".join([*parts, "None were recorded: nothing is known of how well it does."])
    parts.append(
        "Mean ± standard deviation over cases, and in brackets the cases in which the metric is defined, where these "
        "are not all. Before: the untouched model, on the same cases with the same prompts."
    )
    header = ("dataset", "target", "split", "prompt", "cases", "metric", "better", "before", "after")
    parts.append(
        _table(
            header,
            [
                (
                    row.dataset,
                    row.target,
                    row.split,
                    row.prompt,
                    str(row.n_cases),
                    row.metric if row.unit == "1" else f"{row.metric} ({row.unit})",
                    row.better,
                    "not scored" if row.before is None else _score(row.before, row.n_cases),
                    _score(row.after, row.n_cases),
                )
                for row in manifest.metrics
            ],
        )
    )
    settings = {
        f"Prompts of kind {row.prompt} were made with {row.prompt_settings}."
        for row in manifest.metrics
        if row.prompt_settings
    }
    parts += [_text(sentence) for sentence in sorted(settings)]
    parts.append(_leakage(manifest.leakage))
    return "\n\n".join(parts)


def _leakage(leakage: LeakageRecord | None) -> str:
    if leakage is None:
        return "Whether scored scans were trained on was not looked for."
    if leakage.n_certain:
        return (
            f"**Leakage: these scores are no test.** {leakage.n_certain} times something scored was certainly trained "
            f"on; {leakage.n_suspected} times it is suspected."
        )
    found = f"none certain, {leakage.n_suspected} suspected" if leakage.n_suspected else "none was found"
    return (
        "Leakage was looked for by the content of every scan and by the overlaps that the datasets' records declare: "
        f"{found}. A scan that was resampled or cropped has another content and is not recognised by it."
    )


def _loading(manifest: AdapterManifest) -> str:
    model, modality = (shlex.quote(printable(one)) for one in (manifest.model, min(manifest.paths, default="ct")))
    return f"""## How to load it

From a folder, or by the name under which `oncoseg adapters pull` fetched it:

```console
oncoseg adapters pull OWNER/REPOSITORY
oncoseg segment IMAGE --model {model} --modality {modality} --adapter OWNER/REPOSITORY --box X0,Y0,X1,Y1
```

```python
from oncoseg_core import ModelSpec, load_plugins
from oncoseg_lora import adapter_folder, load_adapter

model = load_adapter(load_plugins().build(ModelSpec, {printable(manifest.model)!r}), adapter_folder("OWNER/REPOSITORY"))
```

The hashes in `oncoseg.json` are checked, and an adapter for other base weights is refused. No pickle is read."""


def _score(summary: ScoreSummary, n_scored: int) -> str:
    if summary.mean is None:
        return "undefined"
    text = f"{summary.mean:.3f}" + ("" if summary.std is None else f" ± {summary.std:.3f}")
    return text if summary.n_cases == n_scored else f"{text} ({summary.n_cases})"


def _bullets(title: str, lines: Iterable[str]) -> str:
    return f"{title}\n\n" + "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_code(name) for name in names)


def _code(value: object) -> str:
    """As code, in which nothing but its end has a meaning."""
    text = printable(value).replace("`", "'")
    return f"`{text}`"


def _text(value: str) -> str:
    """On one line; what Markdown, HTML in it or the hub would take for a link, a tag or a cell's end is escaped."""
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(value.split())))
