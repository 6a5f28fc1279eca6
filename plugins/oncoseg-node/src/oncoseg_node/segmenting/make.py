"""All structures of a rule on the images of a job: which model makes which, model by model, mask by mask."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from oncoseg_core import AutomaticModel, ConfigError, DataError, PromptableModel, Registry, Volume, close_matches
from oncoseg_dicom import find_series, read_voxels
from oncoseg_node.config.settings import ModelSettings, NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import Made, MadeStructure, UsedModel
from oncoseg_node.segmenting.models import automatic_model, text_model
from oncoseg_node.segmenting.stored_masks import MaskWriter
from oncoseg_segment import api
from oncoseg_structures import Protocol, read_protocol

Beat = Callable[[str], None]
Sources = Mapping[str, str]


def plan(
    settings: NodeSettings, rule: RuleSettings, registry: Registry, device: str
) -> tuple[Protocol, dict[str, Sources], tuple[str, ...]]:
    """Which model makes which structures of a rule, by what names of its own, and those that none makes.

    Automatic models are built for it, since a folder may say what they make; promptable ones are not.

    Raises:
        ConfigError: the protocol has no structure of a name that the rule lists; or a model makes none of a name that
            its settings give, is to give one mask two names, or has it on the other side.
        OncoSegError: a model cannot be built, or the protocol cannot be read.
    """
    protocol = read_protocol(rule.protocol)
    texts = {one.name: one.text for one in protocol.structures}
    names = list(texts) if rule.structures is None else list(rule.structures)
    for name in names:
        if name not in texts:
            raise ConfigError(f"`rules.{rule.name}.structures`: protocol {protocol.name!r} has no {name!r}")
    open_names, chosen = names, dict[str, Sources]()
    for key in rule.models:
        model = settings.models[key]
        sources = _sources(key, model, open_names, texts, registry, device)
        if sources:
            chosen[key] = sources
        open_names = [name for name in open_names if name not in sources]
    return protocol, chosen, tuple(open_names)


def _sources(
    key: str,
    model: ModelSettings,
    names: Sequence[str],
    texts: Mapping[str, str | None],
    registry: Registry,
    device: str,
) -> dict[str, str]:
    """Those structures that a model makes, each with the model's own name of it or the text that asks for it."""
    mapped = model.structures
    if model.kind == "text":
        asked = texts if mapped is None else mapped
        return {name: text for name in names if (text := asked.get(name)) is not None}
    made = automatic_model(model, registry, device).spec.structures
    if mapped is None:
        return {name: name for name in names if name in made}
    for source in mapped.values():
        if source not in made:
            raise ConfigError(
                f"`models.{key}.structures`: model {model.model!r} makes no {source!r}{close_matches(source, made)}"
            )
    _require_own_sources(key, mapped)
    return {name: mapped[name] for name in names if name in mapped}


def _require_own_sources(key: str, mapped: Sources) -> None:
    """Refuse what no clinic means: one mask under two names, or a left structure from the model's right one.

    Raises:
        ConfigError: the settings say so.
    """
    first: dict[str, str] = {}
    for name, source in mapped.items():
        if first.setdefault(source, name) != name:
            raise ConfigError(f"`models.{key}.structures`: {first[source]} and {name} are both {source!r}")
        if {_side(name), _side(source)} == {"left", "right"}:
            raise ConfigError(
                f"`models.{key}.structures`: {name} is {_side(name)} and {source!r} is {_side(source)}; correct it, or "
                "name the label rightly in the model's own settings"
            )


_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}


def _side(name: str) -> str:
    """The side that a name ends in, or spells out; empty where it says none or both."""
    words = re.split(r"[\W_]+", name.casefold())
    said = {
        _SIDES[word] for number, word in enumerate(words, 1) if word in _SIDES and (word[1:] or number == len(words))
    }
    return said.pop() if len(said) == 1 else ""


def make(job: Job, settings: NodeSettings, rule: RuleSettings, registry: Registry, device: str, beat: Beat) -> Made:
    """Make the structures and leave their masks in the job's folder, all or none.

    A model that refuses the images leaves its structures out with its reason; the others go on.

    Raises:
        OncoSegError: the images cannot be read, a model cannot be loaded, or nothing can be written.
    """
    start = time.monotonic()
    beat("reading")
    volume = replace(read_voxels(find_series(job.images)), source=None)
    seconds = {"read": time.monotonic() - start}
    protocol, chosen, missing = plan(settings, rule, registry, device)
    writer = MaskWriter(job, volume.geometry.shape)
    structures = {
        name: MadeStructure(name=name, model=rule.models[-1], source="", left_out=_NOBODY) for name in missing
    }
    models, findings = [], list(volume.notes)
    for key, sources in chosen.items():
        beat(f"model {key}")
        maker = _automatic if settings.models[key].kind == "automatic" else _by_text
        begin = time.monotonic()
        try:
            found, used = maker(key, settings.models[key], sources, volume, writer, registry, device, beat)
        except DataError as error:
            writer.drop(sources)  # it may have refused in the middle of them
            reason = f"the model refused the images: {error}"
            found = [
                MadeStructure(name=name, model=key, source=source, left_out=reason) for name, source in sources.items()
            ]
            used = None
        seconds[f"model {key}"] = time.monotonic() - begin
        structures |= {one.name: one for one in found}
        if used is not None:
            models.append(used.model_copy(update={"seconds": seconds[f"model {key}"]}))
    order = [one.name for one in protocol.structures if one.name in structures]
    seconds["segment"] = time.monotonic() - start
    made = Made(
        structures=tuple(structures[name] for name in order),
        models=tuple(models),
        seconds=seconds,
        findings=tuple(dict.fromkeys(findings)),
    )
    writer.finish(made)
    return made


_NOBODY = "no model of the rule makes it"


def _automatic(
    key: str,
    model: ModelSettings,
    sources: Sources,
    volume: Volume,
    writer: MaskWriter,
    registry: Registry,
    device: str,
    beat: Beat,
) -> tuple[list[MadeStructure], UsedModel]:
    """The structures of an automatic model."""
    built: AutomaticModel = automatic_model(model, registry, device)
    found = api.segment_automatically(
        built,
        volume,
        tuple(dict.fromkeys(sources.values())),
        registry=registry,
        progress=lambda what, _done, _total: beat(what),
    )
    made = []
    for name, source in sources.items():
        beat(name)
        writer.add(name, found.result.masks[source])
        confidence = found.result.confidences.get(source)
        method = "" if confidence is None else found.result.method
        made.append(MadeStructure(name=name, model=key, source=source, confidence=confidence, method=method))
    return made, _used(key, built.spec.name, found.plugin, built, found.findings)


def _by_text(
    key: str,
    model: ModelSettings,
    sources: Sources,
    volume: Volume,
    writer: MaskWriter,
    registry: Registry,
    device: str,
    beat: Beat,
) -> tuple[list[MadeStructure], UsedModel]:
    """Structures that a promptable model finds by their text on every slice; each in a session of its own."""
    loaded = text_model(model, registry, device)
    opened = loaded.open(volume)
    made, findings = [], list(opened.findings)
    provenance: Mapping[str, str] = {}
    for name, text in sources.items():
        with api.Session.on(opened) as session:
            request = api.StructureRequest(name, text=text, slices="all")
            result = session.prompt(request, progress=lambda what, _done, _total: beat(what))
        (one,) = result.structures
        writer.add(name, one.mask)
        presence = result.presence[name]
        confidence, method = (result.scores[name], "score of the model") if presence is None else (presence, "presence")
        known = 0.0 <= confidence <= 1.0
        made.append(
            MadeStructure(
                name=name,
                model=key,
                source=text,
                confidence=confidence if known else None,
                method=f"{method}, highest of all slices" if known else "",
            )
        )
        findings += [finding for finding in result.findings if finding.about == "model"]
        provenance = result.provenance
    version = provenance.get("version", "")
    adapter = f" with adapter {provenance['adapter']}" if "adapter" in provenance else ""
    return made, _used(key, f"{model.model}{adapter}", version, loaded.model, findings)


def _used(
    key: str,
    component: str,
    version: str,
    model: AutomaticModel | PromptableModel,
    findings: Sequence[api.Finding],
) -> UsedModel:
    notes = tuple(dict.fromkeys(one.message for one in findings if one.level == "warning"))
    licence = model.spec.licence
    return UsedModel(
        key=key,
        component=component,
        version=version,
        weights_sha256=model.weights_sha256,
        licence="" if licence is None else f"code {licence.code}, weights {licence.weights}",
        seconds=0.0,
        notes=notes,
    )
