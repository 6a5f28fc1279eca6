"""One optimizer step: micro-batches, gradients summed over processes once, on the last micro-step only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oncoseg_core.errors import RunError
from oncoseg_core.interfaces import PromptableModel, SegmentationLoss
from oncoseg_core.prompts import Prompt
from oncoseg_core.randomness import derived_seed
from oncoseg_trainer.data import Sample, TrainingSet
from oncoseg_trainer.processes import Processes


class ForwardLoss(nn.Module):
    """Model and losses in one forward, so that DistributedDataParallel sees the call that it has to follow."""

    def __init__(self, model: PromptableModel, losses: Mapping[str, SegmentationLoss]) -> None:
        super().__init__()
        self.model = model
        self.losses = losses

    def forward(
        self, pixels: torch.Tensor, prompts: Sequence[Prompt], target: torch.Tensor, modalities: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Terms of the loss, each the sum over the batch (each modality by its own loss)."""
        logits = self.model.decode(self.model.encode_image(pixels), prompts).logits
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits[:, None], size=target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        summed: dict[str, torch.Tensor] = {}
        for modality in sorted(set(modalities)):
            rows = [i for i, name in enumerate(modalities) if name == modality]
            for name, value in self.losses[modality].terms(logits[rows], target[rows]).items():
                summed[name] = summed.get(name, torch.zeros((), device=logits.device)) + value * len(rows)
        return summed


class Stepper:
    """Runs optimizer steps over the training set, the same on one process as on many.

    An optimizer step takes the next ``batch_size x accumulation x processes`` samples of the epoch's order. Process r
    takes every r-th of them. Each sample weighs the same, also in the last, smaller step of an epoch.
    """

    def __init__(
        self,
        model: PromptableModel,
        losses: Mapping[str, SegmentationLoss],
        optimizer: torch.optim.Optimizer,
        data: TrainingSet,
        processes: Processes,
        batch_size: int,
        accumulation: int,
        seed: int,
    ) -> None:
        self.optimizer = optimizer
        self.data = data
        self.processes = processes
        self.batch_size = batch_size
        self.samples_per_step = batch_size * accumulation * processes.world_size
        self.steps_per_epoch = -(-len(data) // self.samples_per_step)
        self.seed = seed
        forward: nn.Module = ForwardLoss(model, losses)
        if processes.world_size > 1:
            # Buffers of a frozen model are equal everywhere; prompts can leave parts of a decoder without gradient.
            forward = DistributedDataParallel(forward, broadcast_buffers=False, find_unused_parameters=True)
        self.forward = forward

    def step(self, step: int, order: Sequence[int]) -> dict[str, float]:
        """Take optimizer step number ``step`` (from 0) of the run; ``order`` is its epoch's.

        Returns:
            The loss's terms and their sum ``loss``, each the mean over all samples of the step on all processes.

        Raises:
            RunError: the loss is not finite; the samples are named, nothing was changed.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        chosen = order[within * self.samples_per_step : (within + 1) * self.samples_per_step]
        own = list(chosen[self.processes.rank :: self.processes.world_size])
        # A process without a sample of its own still has to join the others: it repeats one, with no weight.
        weight = 1.0 if own else 0.0
        own = own or [chosen[0]]
        batches = [own[i : i + self.batch_size] for i in range(0, len(own), self.batch_size)]
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, torch.Tensor] = {}
        names: list[str] = []
        for number, batch in enumerate(batches):
            samples = [self.data.sample(position, epoch) for position in batch]
            names.extend(sample.name for sample in samples)
            is_last = number == len(batches) - 1
            with nullcontext() if is_last else self._without_sync():
                torch.manual_seed(derived_seed(self.seed, "dropout", epoch, batch[0]))
                terms = self.forward(*self._collate(samples))
                loss = torch.stack(list(terms.values())).sum()
                # DDP averages over processes: times their number makes it the mean over all samples of the step.
                (loss * (weight * self.processes.world_size / len(chosen))).backward()
            for name, value in terms.items():
                totals[name] = totals.get(name, torch.zeros((), dtype=torch.float64)) + weight * value.detach().double()
        means = self._mean_over_processes(totals, len(chosen))
        finite = all(torch.isfinite(torch.tensor(value)) for value in means.values())
        if self.processes.any(not finite):
            raise RunError(
                f"the loss is not finite at step {step + 1} (samples: {', '.join(names)}); "
                "lower training.learning_rate, or look at these images"
            )
        self.optimizer.step()
        return means

    def _collate(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, list[Prompt], torch.Tensor, list[str]]:
        device = self.processes.device
        pixels = torch.stack([sample.pixels for sample in samples]).to(device)
        target = torch.stack([sample.target for sample in samples]).to(device)
        return pixels, [sample.prompt for sample in samples], target, [sample.modality for sample in samples]

    def _without_sync(self) -> object:
        return self.forward.no_sync() if isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _mean_over_processes(self, totals: Mapping[str, torch.Tensor], count: int) -> dict[str, float]:
        names = sorted(totals)
        values = self.processes.sum(torch.stack([totals[name] for name in names]).to(self.processes.device)) / count
        means = dict(zip(names, values.tolist(), strict=True))
        return {"loss": sum(means.values()), **means}
