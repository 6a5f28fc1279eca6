"""A box around one object of a kind, which asks for all of them."""

import numpy as np
from scipy import ndimage

from oncoseg_core import Exemplar, Prompt, PromptGenerator, Target
from oncoseg_prompts.box import BoxGenerator, BoxSettings
from oncoseg_prompts.extent import extent

_EIGHT = np.ones((3, 3), dtype=bool)


class ExemplarGenerator(PromptGenerator):
    """One positive exemplar: the box, with a random margin on each side, of one connected part (8 neighbours)."""

    Settings = BoxSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        """Make the exemplar of a bool mask ``(y, x)``: one of its parts, each alike.

        Raises:
            PromptError: the mask is empty, or not bool ``(y, x)``.
        """
        extent(mask)
        parts, number = ndimage.label(mask, structure=_EIGHT)
        (box,) = BoxGenerator(self.settings).generate(parts == 1 + int(rng.random() * number), rng, target)
        return (Exemplar(*box.as_tuple()),)
