"""Rooms whose answers are known, for the steps; and what they leave behind."""

import numpy as np
import yaml

from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.results import CheckedStructure, Delivery, Made, MadeStructure, UsedModel, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts
from oncoseg_node.work.rooms import Rooms

SHA = "0" * 64


def settings_of(data, **more):
    return NodeSettings.model_validate(
        {
            "data": str(data),
            "receive": {"folder": {"path": str(data / "watched")}},
            "rules": [
                {
                    "name": "lungs",
                    "when": {"Modality": {"equals": "CT"}},
                    "protocol": "thorax",
                    "models": ["simple"],
                    "destinations": ["archive", "planning"],
                    "priority": 3,
                }
            ],
            "models": {"simple": {"model": "ct-thresholds"}},
            "destinations": {name: {"kind": "folder", "path": str(data / name)} for name in ("archive", "planning")},
            **more,
        }
    )


def write_config(folder, **more):
    """A node's YAML file in a folder, for real rooms; its data and its destination lie beside it."""
    rule = {
        "name": "chest",
        "when": {"Modality": {"equals": "CT"}},
        "protocol": "thorax",
        "structures": ["External", "Lung_L"],
        "models": ["thresholds"],
        "destinations": ["drop"],
    }
    content = {
        "data": str(folder / "data"),
        "receive": {"dicom": {"port": 0}},
        "rules": [rule | more.pop("rule", {})],
        "models": {"thresholds": {"model": "ct-thresholds"}},
        "destinations": {"drop": {"kind": "folder", "path": str(folder / "drop")}},
        "keep": {"free_bytes": 1},
    }
    (folder / "drop").mkdir(exist_ok=True)
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(content | more))
    return path


class StandIns:
    """What the rooms answer can be set; ``calls`` are those that were made."""

    def __init__(self):
        self.calls, self.states = [], []
        self.refusals, self.decision, self.fails = [], "written", {}

    def rooms(self):
        return Rooms(
            self.examine,
            self.make,
            self.read_masks,
            lambda _: "series",
            self.read_volume,
            self.check,
            self.write,
            self.send,
            self.confirm,
            self.report,
            self.encapsulate,
        )

    def examine(self, job, settings):
        facts = SeriesFacts(study_uid="1.2", series_uid="1.2.3", modality="CT", slices=3)
        return facts, None if self.refusals else settings.rules[0], self.refusals

    def made(self):
        return Made(
            structures=(MadeStructure(name="Lungs", model="simple", source="lungs", confidence=0.9),),
            models=(UsedModel(key="simple", component="ct-thresholds", version="1", weights_sha256=SHA, seconds=1),),
            seconds={"simple": 1.0},
        )

    def make(self, job, settings, rule, registry, device, beat):
        self.calls.append(f"make on {device}")
        beat("simple")
        return self.made()

    def read_masks(self, job):
        return self.made(), {"Lungs": np.ones((1, 2, 2), bool)}

    def read_volume(self, series):
        return None  # of no stand-in

    def check(self, job, settings, made, masks, volume):
        return [CheckedStructure(name="Lungs", decision=self.decision, model="simple", source="lungs")]

    def write(self, job, settings, made, checked, masks, series, beat):
        job.out.mkdir(exist_ok=True)
        path = job.out / "rtstruct.dcm"
        path.write_bytes(b"structures")
        uids = {"study_uid": "1.2", "series_uid": "1.2.4", "sop_uid": "1.2.4.1", "sop_class_uid": "1.2.5"}
        return [WrittenObject(format="rtstruct", path=path, sha256=SHA, **uids)]

    def send(self, objects, name, destination, beat):
        self.calls.append(f"send to {name}")
        return [self.delivery(one, name, self.fails.get(("send", name), "stored")) for one in objects]

    def confirm(self, objects, name, destination, beat, commitments=None):
        self.calls.append(f"confirm by {name}")
        return [self.delivery(one, name, self.fails.get(("confirm", name), "confirmed")) for one in objects]

    def delivery(self, one, name, status):
        message = "does not answer" if status == "failed" else ""
        return Delivery(destination=name, format=one.format, sop_uid=one.sop_uid, status=status, message=message)

    def encapsulate(self, job, settings, made, pdf, series):
        return self.write(job, settings, made, [], {}, series, None)[0].model_copy(update={"format": "pdf"})

    def report(self, job, settings, facts, made, checked, objects, deliveries, refusals, **_):
        self.states.append(str(job.state))
        return [job.out / "report.json", job.out / "report.pdf"]


REFUSAL = Refusal(kind="missing_slices", message="2 slices are missing between 12 and 15 mm")
