"""One generated case, and a prompt generator that is exact: for tests of what training samples are made of."""

import numpy as np

from oncoseg_core import Box, Case, Geometry, PromptGenerator, Target, Volume
from oncoseg_trainer.data.case_source import LoadedCase


class TightBox(PromptGenerator):
    """The mask's own box."""

    def generate(self, mask, rng, target):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        return (Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1),)


class OneCase:
    """A source of one volume with its masks, the target ``t`` among them."""

    def __init__(self, masks, annotation="mask", voxels=None, kind=None):
        geometry = Geometry.from_parts(masks["t"].shape)
        case = Case(
            dataset="d", case_id="c", patient_id="p", modality="ct", images=("i",), labels=("l",),
            targets=[Target(name=name, labels={1}, kind=kind) for name in masks], annotation=annotation,
        )  # fmt: skip
        voxels = np.zeros((1, *geometry.shape), np.float32) if voxels is None else voxels
        foreground = {name: mask.sum(axis=(1, 2)) for name, mask in masks.items()}
        self.only = LoadedCase(case, Volume(voxels, geometry, "ct"), masks, {}, foreground, "0" * 64)

    def case(self, number):
        return self.only

    def record(self, number):
        return self.only.case
