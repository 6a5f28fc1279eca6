"""Structures made by automatic models and by text."""

from oncoseg_node.segmenting.make import make, plan
from oncoseg_node.segmenting.stored_masks import read_masks

__all__ = ["make", "plan", "read_masks"]
