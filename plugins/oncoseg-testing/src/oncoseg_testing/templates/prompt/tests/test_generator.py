"""The prompt generator keeps the contract, and does what its docstring says."""

import numpy as np
from oncoseg_core import Box, Target
from oncoseg_testing import check_prompt_generator

from oncoseg_newname.generator import NewnameGenerator, NewnameSettings
from oncoseg_newname.plugin import SPEC

RNG = np.random.default_rng(0)
TARGET = Target(name="lung tumour", labels=frozenset({1}))


def test_it_keeps_the_contract():
    check_prompt_generator(NewnameGenerator(), makes=SPEC.makes)


def test_the_largest_part_is_boxed():
    mask = np.zeros((20, 30), dtype=bool)
    mask[1:3, 1:3] = True
    mask[10:14, 5:12] = True
    tight = NewnameGenerator(NewnameSettings(margin_px=(0, 0)))
    assert tight.generate(mask, RNG, TARGET) == (Box(5, 10, 12, 14),)
    wide = NewnameGenerator(NewnameSettings(margin_px=(8, 8)))
    assert wide.generate(mask, RNG, TARGET) == (Box(0, 2, 20, 20),)


def test_pixels_that_touch_at_a_corner_are_one_part():
    tight = NewnameGenerator(NewnameSettings(margin_px=(0, 0)))
    assert tight.generate(np.eye(4, dtype=bool), RNG, TARGET) == (Box(0, 0, 4, 4),)
