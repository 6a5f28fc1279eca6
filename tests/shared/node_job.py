"""A node's job with a series, masks that passed the checks, and the settings around them, for tests of what is sent."""

from dataclasses import dataclass

import numpy as np

from oncoseg_dicom import find_series, write_series
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job, State
from oncoseg_node.records.results import CheckedStructure, Made, MadeStructure, UsedModel

STUDY, SERIES, FRAME = "1.2.826.0.1.3680043.10.99.1", "1.2.826.0.1.3680043.10.99.2", "1.2.826.0.1.3680043.10.99.3"
WEIGHTS = "c0ffee" + 58 * "0"


@dataclass
class NodeJob:
    """What :func:`oncoseg_node.writing.write` takes."""

    job: Job
    settings: NodeSettings
    made: Made
    checked: list
    masks: dict
    series: object

    @property
    def arguments(self):
        return self.job, self.settings, self.made, self.checked, self.masks, self.series


def settings_in(folder, **more):
    return NodeSettings(
        **{
            "data": folder / "data",
            "receive": {},
            "rules": [{"name": "chest", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["maker"]}],
            "models": {"maker": {"model": "ct-thresholds"}},
            **more,
        }
    )  # fmt: skip


def shapes(shape):
    """A lung with a hole, a cord, and a body around both: they overlap, as organs do."""
    z, y, x = np.indices(shape)
    rows, columns = shape[1:]
    body = np.hypot((y - rows / 2) / rows, (x - columns / 2) / columns) < 0.45
    round_ = np.hypot(y - rows / 2, x - columns / 3)
    lung = (round_ < rows / 5) & (round_ > rows / 12) & (z > 0)
    return {"Lung_L": lung, "SpinalCord": np.hypot(y - 0.7 * rows, x - columns / 2) < 2.5, "External": body}


def checked(name, number, decision="written", **more):
    return CheckedStructure(
        name=name,
        decision=decision,
        model="maker",
        source=name.lower(),
        confidence=0.75,
        confidences={"agreement": 0.75, "plausibility": 1.0},
        colour=(number * 40, 200, 10),
        **more,
    )


def node_job(folder, *, shape=(6, 48, 40), images=None, masks=None, **more):
    """A job in ``folder`` on a small phantom, or on the ``images`` and ``masks`` that are given."""
    job = Job(
        id=1,
        study_uid=STUDY,
        series_uid=SERIES,
        folder=folder / "job",
        state=State.CHECKED,
        rule="chest",
        created=1.7e9,
        changed=1.7e9,
    )
    if images is None:
        voxels = np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16)
        attributes = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "FrameOfReferenceUID": FRAME}
        write_series(
            job.images, voxels, [(0, 0, 3.0 * z) for z in range(shape[0])], pixel_spacing=(0.9, 0.9), attributes=attributes
        )  # fmt: skip
    series = find_series(images or job.images)
    masks = shapes(series.geometry.shape) if masks is None else masks
    judged = [
        checked(
            name,
            number,
            "marked" if number == 1 else "written",
            reasons=("the volume is small",) if number == 1 else (),
            interpreted_type="EXTERNAL" if name == "External" else "ORGAN",
        )
        for number, name in enumerate(masks)
    ]
    structures = tuple(MadeStructure(name=one.name, model="maker", source=one.source) for one in judged)
    used = UsedModel(key="maker", component="ct-thresholds", version="1.4", weights_sha256=WEIGHTS, seconds=1.0)
    return NodeJob(job, settings_in(folder, **more), Made(structures=structures, models=(used,)), judged, masks, series)
