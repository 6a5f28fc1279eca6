"""What training and benchmarks share: the objects of a target, and the prompts that point at them."""

from oncoseg_prompts.clicks import next_click
from oncoseg_prompts.objects import Objects, Per, Prompting, box_mask, per_name, union

__all__ = ["Objects", "Per", "Prompting", "box_mask", "next_click", "per_name", "union"]
