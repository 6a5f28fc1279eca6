"""One optimizer step: micro-batches, gradients summed over processes once, on the last micro-step only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oncoseg_core.errors import RunError
from oncoseg_core.interfaces import PromptableModel, SegmentationLoss
from oncoseg_core.prompts import Prompt
from oncoseg_core.randomness import derived_seed
from oncoseg_trainer.data import Sample
from oncoseg_trainer.loading import BatchStream
from oncoseg_trainer.plan import Plan
from oncoseg_trainer.processes import Processes


class ForwardLoss(nn.Module):
    """Model and losses in one forward, so that DistributedDataParallel sees the call that it has to follow.

    The loss on masks is taken ``at`` the model's input, to which smaller logits are scaled, or at the logits, to which
    the targets are.
    """

    def __init__(
        self, model: PromptableModel, losses: Mapping[str, SegmentationLoss], at: Literal["input", "logits"] = "input"
    ) -> None:
        super().__init__()
        self.model = model
        self.losses = losses
        self.at = at

    def forward(
        self, pixels: torch.Tensor, prompts: Sequence[Prompt], target: torch.Tensor, kinds: Sequence[tuple[str, float]]
    ) -> dict[str, torch.Tensor]:
        """Terms of the loss, each the weighted sum over the batch; ``kinds`` are each sample's modality and weight."""
        output = self.model.training_output(self.model.encode_image(pixels), prompts, target)
        logits = output.logits
        if logits.shape[-2:] != target.shape[-2:]:
            if self.at == "logits":
                target = smaller_target(target, logits.shape[-1])
            else:
                logits = F.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        by_mask = output.by_mask.tolist()
        summed: dict[str, torch.Tensor] = {}
        for modality, weight in sorted(set(kinds)):
            rows = [i for i, kind in enumerate(kinds) if kind == (modality, weight) and by_mask[i]]
            # A term is there, as 0, also where no mask is the answer: processes add up the same terms.
            for name, value in self.losses[modality].terms(logits[rows or [0]], target[rows or [0]]).items():
                summed[name] = summed.get(name, torch.zeros((), device=logits.device)) + value * (len(rows) * weight)
        weights = torch.tensor([weight for _, weight in kinds], device=logits.device)
        return {**summed, **{name: (value * weights).sum() for name, value in output.terms.items()}}


def smaller_target(target: torch.Tensor, size: int) -> torch.Tensor:
    """Targets ``(n, y, x)`` on a coarser square: a pixel belongs from half covered on, the best-covered one always."""
    coverage = F.interpolate(target[:, None], (size, size), mode="area")[:, 0]
    most = coverage.amax(dim=(1, 2), keepdim=True)
    return ((coverage >= most.clamp(max=0.5)) & (most > 0)).to(target.dtype)


class Stepper:
    """Runs optimizer steps over the stream of micro-batches, the same on one process as on many.

    Each sample weighs the same, also in the last, smaller step of an epoch, but for its own weight.
    """

    def __init__(
        self,
        model: PromptableModel,
        losses: Mapping[str, SegmentationLoss],
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        processes: Processes,
        seed: int,
        loss_at: Literal["input", "logits"] = "input",
    ) -> None:
        self.optimizer = optimizer
        self.plan = plan
        self.processes = processes
        self.seed = seed
        forward: nn.Module = ForwardLoss(model, losses, loss_at)
        if processes.world_size > 1:
            # Buffers of a frozen model are equal everywhere; prompts can leave parts of a decoder without gradient.
            forward = DistributedDataParallel(forward, broadcast_buffers=False, find_unused_parameters=True)
        self.forward = forward

    def step(self, step: int, stream: BatchStream) -> dict[str, float]:
        """Take optimizer step number ``step`` (from 0) of the run; its micro-batches are the next of the stream.

        Returns:
            The loss's terms and their sum ``loss``, each the mean over all samples of the step on all processes.

        Raises:
            RunError: the loss is not finite; the samples are named, nothing was changed.
            OncoSegError: a sample could not be made.
        """
        plan = self.plan.step(step)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, torch.Tensor] = {}
        names: list[str] = []
        for number in range(len(plan.batches)):
            batch = next(stream)
            names.extend(sample.name for sample in batch.samples)
            is_last = number == len(plan.batches) - 1
            with nullcontext() if is_last else self._without_sync():
                torch.manual_seed(derived_seed(self.seed, "dropout", plan.epoch, batch.number))
                terms = self.forward(*self._collate(batch.samples))
                loss = torch.stack(list(terms.values())).sum()
                # DDP averages over processes: times their number makes it the mean over all samples of the step.
                (loss * (plan.weight * self.processes.world_size / plan.total)).backward()
            for name, value in terms.items():
                totals[name] = (
                    totals.get(name, torch.zeros((), dtype=torch.float64)) + plan.weight * value.detach().double()
                )
        means = self._mean_over_processes(totals, plan.total)
        finite = all(torch.isfinite(torch.tensor(value)) for value in means.values())
        if self.processes.any(not finite):
            raise RunError(
                f"the loss is not finite at step {step + 1} (samples: {', '.join(names)}); "
                "lower training.learning_rate, or look at these images"
            )
        self.optimizer.step()
        return means

    def _collate(
        self, samples: Sequence[Sample]
    ) -> tuple[torch.Tensor, list[Prompt], torch.Tensor, list[tuple[str, float]]]:
        device = self.processes.device
        pixels = torch.stack([sample.pixels for sample in samples]).to(device)
        target = torch.stack([sample.target for sample in samples]).to(device)
        kinds = [(sample.modality, sample.weight) for sample in samples]
        return pixels, [sample.prompt for sample in samples], target, kinds

    def _without_sync(self) -> object:
        return self.forward.no_sync() if isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _mean_over_processes(self, totals: Mapping[str, torch.Tensor], count: int) -> dict[str, float]:
        names = sorted(totals)
        values = self.processes.sum(torch.stack([totals[name] for name in names]).to(self.processes.device)) / count
        means = dict(zip(names, values.tolist(), strict=True))
        return {"loss": sum(means.values()), **means}
