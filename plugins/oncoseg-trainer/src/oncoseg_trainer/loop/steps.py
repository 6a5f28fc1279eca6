"""One optimizer step: micro-batches, gradients summed over processes once, on the last micro-step only."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NoReturn

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oncoseg_core import Prompt, PromptableModel, RunError, SegmentationLoss
from oncoseg_core.inference import Precision, autocast
from oncoseg_core.system import derived_seed
from oncoseg_trainer.config.training_settings import DdpSettings, OptimisationSettings
from oncoseg_trainer.data.batches import Batch, BatchStream
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.corrective_clicks import with_corrections
from oncoseg_trainer.loop.health import not_finite
from oncoseg_trainer.loop.optimizer import LearningRate

MOST_SKIPPED = 20
"""So many steps skipped in a row are an error: torch's first loss scale, 65,536, halved as often is below 1/16, so that
the gradient overflows half precision by itself."""


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
        self,
        pixels: torch.Tensor,
        prompts: Sequence[Prompt],
        target: torch.Tensor,
        kinds: Sequence[tuple[str, float]],
        corrections: Sequence[int] = (),
    ) -> dict[str, torch.Tensor]:
        """Terms of the loss, each the weighted sum over the batch.

        ``kinds`` are each sample's modality and weight, ``corrections`` how many clicks correct the model's answer.
        """
        embedding = self.model.encode_image(pixels)
        prompts = with_corrections(self.model, embedding, prompts, target, corrections)
        output = self.model.training_output(embedding, prompts, target)
        logits = output.logits.float()  # a loss in half precision would be one of rounding
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
        return {**summed, **{name: (value.float() * weights).sum() for name, value in output.terms.items()}}


def smaller_target(target: torch.Tensor, size: int) -> torch.Tensor:
    """Targets ``(n, y, x)`` on a coarser square: a pixel belongs from half covered on, the best-covered one always."""
    coverage = F.interpolate(target[:, None], (size, size), mode="area")[:, 0]
    most = coverage.amax(dim=(1, 2), keepdim=True)
    return ((coverage >= most.clamp(max=0.5)) & (most > 0)).to(target.dtype)


class Stepper:
    """Runs optimizer steps over the stream of micro-batches, the same on one process as on many.

    Each sample weighs the same, also in the last, smaller step of an epoch, but for its own weight.

    Args:
        forward: the model and its losses.
        optimizer: of the model's trained weights.
        learning_rate: that of each step.
        plan: what is this process's part.
        processes: this process and its fellows.
        seed: the run's.
        settings: of the loop.

    Attributes:
        skipped: how many steps changed nothing, since in half precision their gradient overflowed.
    """

    def __init__(
        self,
        forward: ForwardLoss,
        optimizer: torch.optim.Optimizer,
        learning_rate: LearningRate,
        plan: Plan,
        processes: Processes,
        seed: int,
        settings: OptimisationSettings,
    ) -> None:
        self.optimizer = optimizer
        self.plan = plan
        self.processes = processes
        self.seed = seed
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._learning_rate = learning_rate
        self._precision: Precision = settings.precision
        self._clip_norm = settings.clip_norm
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=settings.precision == "fp16")
        self._weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.forward = forward if processes.world_size == 1 else _synchronised(forward, settings.ddp)
        self._graph_unknown = processes.world_size > 1 and settings.ddp.static_graph

    def step(self, step: int, stream: BatchStream) -> dict[str, float]:
        """Take optimizer step number ``step`` (from 0) of the run; its micro-batches are the next of the stream.

        Returns:
            The loss's terms and their sum ``loss``, each the mean over all samples of the step on all processes, the
            learning rate ``lr`` and the norm of the gradient before clipping, ``grad_norm``. A step that was skipped,
            because its gradient overflowed in half precision, has ``skipped`` (how many there were) in its place.

        Raises:
            RunError: the loss or the gradient is not finite; the samples are named, nothing was changed. Or too many
                steps in a row were skipped.
            OncoSegError: a sample could not be made.
        """
        plan = self.plan.step(step)
        rate = self._learning_rate.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, torch.Tensor] = {}
        losses: list[tuple[torch.Tensor, list[str]]] = []
        for number in range(len(plan.batches)):
            batch = next(stream)
            if self._graph_unknown:
                self._show_graph(batch)
            is_last = number == len(plan.batches) - 1
            with nullcontext() if is_last else self._without_sync():
                torch.manual_seed(derived_seed(self.seed, "dropout", plan.epoch, batch.number))
                with autocast(self.processes.device, self._precision):
                    terms = self.forward(*batch.on(self.processes.device))
                loss = torch.stack(list(terms.values())).sum()
                # DDP averages over processes: times their number makes it the mean over all samples of the step.
                share = loss * (plan.weight * self.processes.world_size / plan.total)
                self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            losses.append((loss.detach(), batch.names))
            for name, value in terms.items():
                totals[name] = (
                    totals.get(name, torch.zeros((), dtype=torch.float64)) + plan.weight * value.detach().double()
                )
        means = self._mean_over_processes(totals, plan.total)
        if not math.isfinite(means["loss"]):
            self._refuse("loss", step, [name for loss, names in losses if not loss.isfinite() for name in names])
        return {**means, "lr": rate, **self._descend(step, [name for _, names in losses for name in names])}

    def _show_graph(self, batch: Batch) -> None:
        """Take a first pass in vain: torch learns a static graph only from one whose gradients are put together."""
        with autocast(self.processes.device, self._precision):
            terms = self.forward(*batch.on(self.processes.device))
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)
        self._graph_unknown = False

    def _descend(self, step: int, samples: list[str]) -> dict[str, float]:
        """Change the weights. Gradients, and what is decided by them, are the same on every process."""
        self._scaler.unscale_(self.optimizer)
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._weights, self._clip_norm, norm)
        length = norm.item()
        finite = math.isfinite(length)
        if not finite and not self._scaler.is_enabled():
            self._refuse("gradient", step, samples)
        self._scaler.step(self.optimizer)  # does nothing where the gradient is not finite
        self._scaler.update()
        if finite:
            self._skipped_in_a_row = 0
            return {"grad_norm": length}
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED:
            raise RunError(
                f"the gradient overflowed half precision in {MOST_SKIPPED} steps in a row, up to step {step + 1}; set "
                "training.precision to bf16 or fp32, or lower training.learning_rate"
            )
        return {"skipped": self.skipped}

    def _refuse(self, what: str, step: int, samples: list[str]) -> NoReturn:
        """Raise the same error on every process, with the samples of all in which it arose."""
        everywhere = [name for names in self.processes.gather(samples) for name in names]
        raise not_finite(what, step, sorted(set(everywhere)), self._precision)

    def state_dict(self) -> dict[str, Any]:
        """The scale of the loss in half precision, and how many steps were skipped."""
        return {
            "scaler": self._scaler.state_dict(),
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._scaler.load_state_dict(state["scaler"])
        self.skipped, self._skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]

    def _without_sync(self) -> AbstractContextManager[object]:
        return self.forward.no_sync() if isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _mean_over_processes(self, totals: Mapping[str, torch.Tensor], count: int) -> dict[str, float]:
        names = sorted(totals)
        values = self.processes.sum(torch.stack([totals[name] for name in names]).to(self.processes.device)) / count
        means = dict(zip(names, values.tolist(), strict=True))
        return {"loss": sum(means.values()), **means}


def _synchronised(forward: nn.Module, settings: DdpSettings) -> nn.Module:
    """The model whose gradients are the mean over all processes."""
    with warnings.catch_warnings():
        # torch 2.13 has a new name for the setting, which 2.8 does not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            forward,
            broadcast_buffers=False,  # those of a frozen model are equal everywhere
            gradient_as_bucket_view=True,  # no second copy of the gradients
            find_unused_parameters=settings.find_unused_parameters,
            static_graph=settings.static_graph,
        )
