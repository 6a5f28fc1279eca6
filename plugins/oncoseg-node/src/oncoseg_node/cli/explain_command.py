"""``oncoseg node explain``: what would be done with the series of a folder, and why. Light until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from oncoseg_node.config.settings import NodeSettings
    from oncoseg_node.examination.judge import Judgement
    from oncoseg_node.examination.matching import RuleTrial

_FACTS = (
    "Modality",
    "BodyPartExamined",
    "ProtocolName",
    "SeriesDescription",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "SliceThickness",
    "ImageType",
    "PatientPosition",
)
_LONGEST = 60


def explain(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of series, in folders of any kind.")],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG.yaml", help="The node's settings.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say what the node would do with each series below a folder, and why; nothing is sent or written.

    Exit code 1 if none would be contoured.
    """
    from oncoseg_core import ImageReadError
    from oncoseg_core.cli import say, say_json
    from oncoseg_core.system import display_path
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.examination.judge import judge
    from oncoseg_node.examination.whole import series_below

    settings = read_settings(config)
    if not folder.is_dir():
        raise ImageReadError(f"{display_path(folder)}: no such folder; expected one with DICOM series in it")
    series = series_below(folder)
    if not series:
        raise ImageReadError(f"{display_path(folder)}: holds no DICOM file")
    answers = [explained(judge(files, settings), len(files), settings) for files in series]
    if as_json:
        say_json({"series": answers})
    else:
        for number, answer in enumerate(answers, 1):
            for line in _lines(number, answer):
                say(line)
    if not any(answer["contoured"] for answer in answers):
        raise typer.Exit(1)


def explained(judgement: Judgement, files: int, settings: NodeSettings) -> dict[str, Any]:
    """A judgement as plain values, without what names a patient."""
    facts, matched = judgement.facts, judgement.match
    rule = None if matched is None else matched.rule
    contoured = rule is not None and not judgement.refusals
    answer: dict[str, Any] = {
        "files": files,
        "facts": {},
        "rules": [] if matched is None else [_trial(trial) for trial in matched.trials],
        "rule": None if rule is None else rule.name,
        "refusals": [refusal.model_dump() for refusal in judgement.refusals],
        "contoured": contoured,
        "then": None,
    }
    if facts is not None:
        answer["facts"] = {
            "slices": facts.slices,
            "spacing_mm": facts.spacing_mm,
            **{key: _shortened(facts.values[key]) for key in _FACTS if key in facts.values},
        }
    if contoured and rule is not None:
        answer["then"] = {
            "protocol": rule.protocol,
            "structures": None if rule.structures is None else list(rule.structures),
            "models": [{"name": name, "model": settings.models[name].model} for name in rule.models],
            "destinations": list(rule.destinations),
            "priority": rule.priority,
            "off_peak": rule.off_peak,
        }
    return answer


def _trial(trial: RuleTrial) -> dict[str, Any]:
    from oncoseg_node.config.tags import names_patient

    return {
        "rule": trial.rule,
        "fits": trial.fits,
        "conditions": [
            {
                "keyword": one.keyword,
                "present": None
                if one.present is None
                else "(not shown)"
                if names_patient(one.keyword)
                else one.present,
                "expected": "(not shown)" if names_patient(one.keyword) else one.expected,
                "fits": one.fits,
            }
            for one in trial.conditions
        ],
    }


def _shortened(value: Any) -> Any:
    return value[:_LONGEST] if isinstance(value, str) else value


def _lines(number: int, answer: dict[str, Any]) -> list[str]:
    """An answer for a person."""
    facts = ", ".join(f"{key} {_plain(value)}" for key, value in answer["facts"].items() if value is not None)
    lines = [f"series {number}: {answer['files']} file{'s' * (answer['files'] != 1)}{': ' * bool(facts)}{facts}"]
    for rule in answer["rules"]:
        taken = " (taken)" if rule["rule"] == answer["rule"] else ", but an earlier one is taken" * rule["fits"]
        lines.append(f"  rule {rule['rule']}: {'fits' if rule['fits'] else 'does not fit'}{taken}")
        for one in rule["conditions"]:
            mark = "yes" if one["fits"] else "NO "
            lines.append(f"    {mark} {one['keyword']} is {_plain(one['present'])}; expected {one['expected']}")
    lines += [f"  refused: {one['kind']}: {one['message']}" for one in answer["refusals"]]
    return [*lines, *_outcome(answer["then"])]


def _outcome(then: dict[str, Any] | None) -> list[str]:
    if then is None:
        return ["  would not be contoured"]
    structures = "all" if then["structures"] is None else ", ".join(then["structures"])
    when = ", off-peak" * then["off_peak"] + (f", priority {then['priority']}" if then["priority"] else "")
    models = ", ".join(f"{one['name']} ({one['model']})" for one in then["models"])
    to = ", ".join(then["destinations"]) or "nowhere: only a report would be written"
    return [
        f"  would be contoured: protocol {then['protocol']}, structures {structures}, by {models}, sent to {to}{when}"
    ]


def _plain(value: Any) -> str:
    if value is None:
        return "absent"
    return (
        "\\".join(map(_plain, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
