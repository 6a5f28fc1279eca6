"""SAM3's own way through the slices of a volume: they are the frames of a video, which its tracker remembers.

The tracker sees each slice through its memories of the slices before: masks with the features under them, and one
vector per slice that stands for the object (Ravi et al., "SAM 2", 2024, https://arxiv.org/abs/2408.00714).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core import Decoded, Instances, Prompt, SliceTracker, UsageError

PROMPTED, FOLLOWED = "cond_frame_outputs", "non_cond_frame_outputs"
"""Meta's names of what it remembers of the prompted frame, and of the others."""


class FollowedMasks(NamedTuple):
    """What the tracker gives on a slice, all float32.

    ``logits`` ``(n, h, w)`` of the mask that it takes itself to be right, ``ious`` ``(n, m)`` predicted for each of its
    m masks ``(n, m, h, w)``, ``presence`` ``(n,)`` the logits of the object's being there; where it is not, every mask
    is Meta's constant for nothing.
    """

    logits: torch.Tensor
    ious: torch.Tensor
    masks: torch.Tensor
    presence: torch.Tensor


class TrackerMemory:
    """What the tracker remembers of one object, and what it makes of the next slice.

    These are the steps of Meta's ``track_step``, which in training keeps the object's presence and all but one mask to
    itself.

    Args:
        tracker: Meta's.
        position_encoding: of the image's features.
    """

    def __init__(self, tracker: Any, position_encoding: Any) -> None:
        self._tracker, self._position_encoding = tracker, position_encoding
        self._memory: dict[str, dict[int, Any]] = {PROMPTED: {}, FOLLOWED: {}}
        self._frame = 0

    def start(self, embedding: Mapping[str, torch.Tensor], mask: torch.Tensor) -> None:
        """Remember an object by its mask 0/1 ``(n, size, size)`` on a slice, and forget every other."""
        self._memory[PROMPTED] = {}
        self.rewind()
        _, fine, coarse = self._levels(embedding)
        heads = self._tracker._use_mask_as_output(coarse, [*fine], mask[:, None].float())  # noqa: SLF001
        self._remember(PROMPTED, embedding, heads)

    def rewind(self) -> None:
        """Forget every slice but the first; what is remembered of that does not depend on the direction."""
        self._memory[FOLLOWED] = {}
        self._frame = 0

    def follow(self, embedding: Mapping[str, torch.Tensor]) -> FollowedMasks:
        """Find the object on the next slice, and remember it there.

        Raises:
            UsageError: nothing is remembered.
        """
        if not self._memory[PROMPTED]:
            raise UsageError("the tracker has not started: start it on the slice with the prompt")
        self._frame += 1
        flat, fine, coarse = self._levels(embedding)
        position = self._position_encoding(coarse).to(coarse.dtype).flatten(2).permute(2, 0, 1)
        remembered = self._tracker._prepare_memory_conditioned_features(  # noqa: SLF001
            frame_idx=self._frame,
            is_init_cond_frame=False,
            current_vision_feats=flat[-1:],
            current_vision_pos_embeds=[position],
            feat_sizes=[coarse.shape[-2:]],
            output_dict=self._memory,
            # How many slices there will be is not known; more than its reach do not count.
            num_frames=self._frame + self._tracker.max_obj_ptrs_in_encoder,
        )
        heads = self._tracker._forward_sam_heads(  # noqa: SLF001
            backbone_features=remembered,
            high_res_features=[*fine],
            multimask_output=self._tracker._use_multimask(is_init_cond_frame=False, point_inputs=None),  # noqa: SLF001
        )
        self._remember(FOLLOWED, embedding, heads)
        masks, _, ious, chosen, _, _, presence = heads
        return FollowedMasks(chosen[:, 0].float(), ious.float(), masks.float(), presence[:, 0].float())

    def _remember(self, kept_as: str, embedding: Mapping[str, torch.Tensor], heads: tuple[torch.Tensor, ...]) -> None:
        flat, _, coarse = self._levels(embedding)
        *_, large, pointer, presence = heads
        features, positions = self._tracker._encode_new_memory(  # noqa: SLF001
            image=None,
            current_vision_feats=flat,
            feat_sizes=[coarse.shape[-2:]],
            pred_masks_high_res=large,
            object_score_logits=presence,
            is_mask_from_pts=False,
        )
        kept = {"maskmem_features": features, "maskmem_pos_enc": positions, "obj_ptr": pointer}
        self._memory[kept_as][self._frame] = kept
        self._memory[FOLLOWED].pop(self._frame - self._tracker.max_obj_ptrs_in_encoder, None)

    def _levels(
        self, embedding: Mapping[str, torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
        """The features as Meta's video code hands them on: all of them flat, the two fine ones, the coarse one."""
        fine = [embedding["tracker_4x"], embedding["tracker_2x"]]
        coarse = embedding["tracker_1x"]
        return [level.flatten(2).permute(2, 0, 1) for level in (*fine, coarse)], fine, coarse


class TrackedModel(Protocol):
    """What the tracker needs of its model."""

    def decode(self, embedding: dict[str, torch.Tensor], prompts: list[Prompt]) -> Decoded:
        """One mask per prompt."""

    def add_tracker_features(self, embedding: dict[str, torch.Tensor]) -> None:
        """Put what the tracker sees into an embedding that lacks it."""


class Sam3SliceTracker(SliceTracker):
    """Follows one object in one direction, then in the other.

    What the prompt gives on its slice, by whichever part of the model, is what the tracker remembers first. So every
    kind of prompt will do, and what is followed is what was shown.

    Args:
        model: decodes the prompt.
        tracker: Meta's, of the same model.
        position_encoding: of the image's features.
    """

    def __init__(self, model: TrackedModel, tracker: Any, position_encoding: Any) -> None:
        self._model, self._side = model, tracker.image_size
        self._memory = TrackerMemory(tracker, position_encoding)
        self._score: torch.Tensor | None = None

    def start(self, embedding: dict[str, torch.Tensor], prompt: Prompt) -> Decoded:
        """Segment the object on the slice that was prompted, and remember it.

        Raises:
            PromptError: as for the model's ``decode``.
        """
        decoded = self._model.decode(embedding, [prompt])
        side = self._side
        full = F.interpolate(decoded.logits[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
        self._model.add_tracker_features(embedding)
        self._memory.start(embedding, full > 0)
        self._score = decoded.scores
        return decoded

    def rewind(self) -> None:
        """Go back to the prompted slice."""
        self._memory.rewind()

    def follow(self, embedding: dict[str, torch.Tensor]) -> Decoded:
        """Segment it on the next slice; the score is the first slice's times the probability that it is still there.

        Raises:
            UsageError: the tracker was not started.
        """
        self._model.add_tracker_features(embedding)
        followed = self._memory.follow(embedding)
        assert self._score is not None  # noqa: S101 - the memory has refused
        score = self._score * followed.presence.sigmoid()
        nan = torch.full_like(score, torch.nan)
        return Decoded(followed.logits, score, presence=nan, instances=(Instances(followed.logits, score),))
