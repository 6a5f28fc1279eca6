"""The kit for plugin authors: what keeps the contract passes, and what breaks a rule is told which one.

The images are synthetic: the subject is the kit, and what it must catch does not occur in real scans.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from oncoseg_core.errors import DataError, PromptError, StorageError
from oncoseg_core.image_io import write_segmentation
from oncoseg_core.interfaces import (
    DatasetAdapter,
    Decoded,
    Exporter,
    ExportReport,
    Metric,
    Normalizer,
    PromptableModel,
    PromptGenerator,
    SegmentationLoss,
    Tracker,
)
from oncoseg_core.prompts import Box, MaskPrompt, Point
from oncoseg_core.records import Case, CommandSpec, DatasetSpec, LoraSpec, ModelSpec, Target
from oncoseg_core.testing import (
    check_command,
    check_dataset,
    check_exporter,
    check_loss,
    check_metric,
    check_model,
    check_normalizer,
    check_prompt_generator,
    check_tracker,
)
from oncoseg_core.testing.datasets import _listing


def table(*broken):
    """Parameters: classes that each break one rule, with the words by which the message must name it."""
    return pytest.mark.parametrize(("broken", "rule"), broken, ids=[f"{b.__qualname__}" for b, _ in broken])


def told(check):
    with pytest.raises(AssertionError) as caught:
        check()
    message = str(caught.value)
    assert message.startswith("rule: ")
    assert "; example: " in message
    assert "; found: " in message
    return message


def test_a_missing_hypothesis_is_named_with_its_install_command_and_torch_is_not_loaded():
    program = """
        import sys
        {block}
        try:
            import oncoseg_core.testing
        except Exception as error:
            print(type(error).__name__, error)
        print("torch" in sys.modules, "SimpleITK" in sys.modules)
    """
    for block, said in (
        ("sys.modules['hypothesis'] = None", "MissingDependencyError oncoseg_core.testing needs the library 'hypothesis', which is not installed: pip install hypothesis\nFalse False\n"),
        ("", "False False\n"),
    ):  # fmt: skip
        arguments = [sys.executable, "-c", textwrap.dedent(program).format(block=block)]
        assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == said


# Normalizers.


class Window(Normalizer):
    def fit(self, voxels):
        flat = voxels.reshape(len(voxels), -1).astype(float)
        return {"low": tuple(flat.min(1).tolist()), "high": tuple(flat.max(1).tolist())}

    def apply(self, voxels, stats):
        shape = (-1,) + (1,) * (voxels.ndim - 1)
        low, high = (np.reshape(stats[name], shape) for name in ("low", "high"))
        return np.clip((voxels - low) / np.where(high > low, high - low, 1), 0, 1).astype(np.float32)


class WithGaps(Window):
    def fit(self, voxels):
        return super().fit(np.nan_to_num(voxels, posinf=0, neginf=0))

    def apply(self, voxels, stats):
        return super().apply(np.nan_to_num(voxels, posinf=0, neginf=0), stats)


class TooWide(Window):
    def apply(self, voxels, stats):
        return super().apply(voxels, stats) * np.float32(1.5)


class NotANumber(Window):
    def apply(self, voxels, stats):
        low, high = np.float32(stats["low"][0]), np.float32(stats["high"][0])
        with np.errstate(all="ignore"):
            return np.clip((voxels.astype(np.float32) - low) / (high - low), 0, 1)


class Double(Window):
    def apply(self, voxels, stats):
        return super().apply(voxels, stats).astype(np.float64)


class OtherShape(Window):
    def apply(self, voxels, stats):
        return super().apply(voxels, stats)[..., None]


class InPlace(Window):
    def apply(self, voxels, stats):
        voxels += 0
        return super().apply(voxels, stats)


class BehindTheBack(Window):
    def fit(self, voxels):
        base = voxels
        while base.base is not None:
            base = base.base
        base += 1
        return super().fit(voxels)


class InPlaceFit(Window):
    def fit(self, voxels):
        voxels += 0
        return super().fit(voxels)


class Sometimes(Window):
    calls = 0

    def apply(self, voxels, stats):
        self.calls += 1
        if self.calls == 40:
            raise ValueError("every now and then")
        return super().apply(voxels, stats)


class DoubleSlices(Window):
    def apply(self, voxels, stats):
        unit = super().apply(voxels, stats)
        return unit if voxels.ndim == 4 else unit.astype(float)


class PerSlice(Window):
    def apply(self, voxels, stats):
        return super().apply(voxels, Window.fit(self, voxels))


class NotJson(Window):
    def fit(self, voxels):
        return {name: tuple(map(np.float32, numbers)) for name, numbers in super().fit(voxels).items()}


class Infinite(Window):
    def fit(self, voxels):
        return {**super().fit(voxels), "slope": (float("inf"),) * len(voxels)}


class OneForAll(Window):
    def fit(self, voxels):
        return {**super().fit(voxels), "mean": (float(voxels.mean()), 0.0, 0.0, 0.0)}


class ByIdentity(Window):
    def fit(self, voxels):
        self.last = stats = super().fit(voxels)
        return stats

    def apply(self, voxels, stats):
        return super().apply(voxels, stats) if stats is self.last else super().apply(voxels, stats) / 2


class Inverted(Window):
    def apply(self, voxels, stats):
        return 1 - super().apply(voxels, stats)


class ByMemory(Window):
    def fit(self, voxels):
        stats = super().fit(voxels)
        return stats if voxels.flags.c_contiguous else {**stats, "high": tuple(2 * abs(n) + 1 for n in stats["high"])}


class Unsure(Window):
    def recognises(self, voxels):
        return None


def test_a_sound_normalizer_passes():
    check_normalizer(Window())
    check_normalizer(WithGaps(), accepts_nan=True)
    check_normalizer(Inverted(), monotone=False)


@table(
    (TooWide, "finite values in [0, 1]"),
    (NotANumber, "finite values in [0, 1]"),
    (Double, "float32 of the input's shape"),
    (OtherShape, "float32 of the input's shape"),
    (InPlace, "do not write to their input"),
    (InPlaceFit, "do not write to their input"),
    (BehindTheBack, "do not write to their input"),
    (Sometimes, ""),
    (DoubleSlices, "slice by slice"),
    (PerSlice, "slice by slice, the result is that of the whole volume"),
    (NotJson, "named tuples of finite numbers"),
    (Infinite, "named tuples of finite numbers"),
    (OneForAll, "one number per channel"),
    (ByIdentity, "went through JSON"),
    (Inverted, "a brighter voxel does not become darker"),
    (ByMemory, "memory layout"),
    (Unsure, "recognises answers True or False"),
)
def test_a_normalizer_that_breaks_a_rule_is_told_which(broken, rule):
    assert rule in told(lambda: check_normalizer(broken())).partition("; example: ")[0]


def test_a_normalizer_that_says_it_accepts_nan_must():
    assert "NaN and infinite voxels" in told(lambda: check_normalizer(NanToNan(), accepts_nan=True))


class NanToNan(Window):
    def fit(self, voxels):
        return super().fit(np.nan_to_num(voxels, posinf=0, neginf=0))

    def apply(self, voxels, stats):
        if np.isnan(voxels.astype(float)).any():
            raise ValueError("NaN")
        return super().apply(voxels, stats)


def test_the_examples_keep_to_the_modality():
    class Positive(Window):
        def fit(self, voxels):
            if voxels.min() < 0 or voxels.max() > 4095 or len(voxels) != 1:
                raise DataError("not mine")
            return super().fit(voxels)

    check_normalizer(Positive(), values=(0, 4095), channels=(1,))
    assert "DataError: not mine" in told(lambda: check_normalizer(Positive()))


# Prompt generators.


class Tight(PromptGenerator):
    def generate(self, mask, rng):
        rows, columns = np.nonzero(mask)
        if rows.size == 0:
            raise PromptError("empty")
        grow = rng.uniform(0, 2)
        return (Box(columns.min() - grow, rows.min() - grow, columns.max() + 1 + grow, rows.max() + 1 + grow),)


class AsMask(PromptGenerator):
    def generate(self, mask, rng):
        if not mask.any():
            raise PromptError("empty")
        return (MaskPrompt(np.array(mask)),)


class Beside(Tight):
    def generate(self, mask, rng):
        super().generate(mask, rng)
        return (Point(mask.shape[1], mask.shape[0]),)


class OwnDice(Tight):
    def generate(self, mask, rng):
        return super().generate(mask, np.random.default_rng())


class Erasing(Tight):
    def generate(self, mask, rng):
        prompt = super().generate(mask, rng)
        mask[:] = False
        return prompt


class NotATuple(Tight):
    def generate(self, mask, rng):
        return super().generate(mask, rng)[0]


class Nothing(Tight):
    def generate(self, mask, rng):
        super().generate(mask, rng)
        return ()


class Undeclared(Tight):
    def generate(self, mask, rng):
        (box,) = super().generate(mask, rng)
        return (box, Point(max(box.x0, 0.5), max(box.y0, 0.5)))


class AnywhereInEmpty(Tight):
    def generate(self, mask, rng):
        return super().generate(mask, rng) if mask.any() else (Box(0, 0, 1, 1),)


class ValueErrorInEmpty(Tight):
    def generate(self, mask, rng):
        if not mask.any():
            raise ValueError("empty")
        return super().generate(mask, rng)


class InMemoryOrder(Tight):
    def generate(self, mask, rng):
        super().generate(mask, rng)
        row, column = np.argwhere(mask)[-1 if mask.flags.c_contiguous else 0]
        return (Box(column, row, column + 1, row + 1),)


def test_a_sound_prompt_generator_passes():
    check_prompt_generator(Tight(), makes=("box",))
    check_prompt_generator(AsMask(), makes=("mask",))


@table(
    (Beside, "hints lie on the slice"),
    (OwnDice, "the same mask and the same rng give the same prompt"),
    (Erasing, "does not write to the mask"),
    (NotATuple, "a prompt is a tuple"),
    (Nothing, "a prompt is a tuple of at least one"),
    (Undeclared, "kinds that the record says it makes (box)"),
    (AnywhereInEmpty, "an empty mask is refused with PromptError"),
    (ValueErrorInEmpty, "an empty mask is refused with PromptError"),
    (InMemoryOrder, "memory layout does not change the prompt"),
)
def test_a_prompt_generator_that_breaks_a_rule_is_told_which(broken, rule):
    makes = ("point",) if broken is Beside else ("box",)
    assert rule in told(lambda: check_prompt_generator(broken(), makes=makes)).partition("; example: ")[0]


# Losses.


class CrossEntropy(SegmentationLoss):
    def terms(self, logits, target):
        return {"bce": nn.functional.binary_cross_entropy_with_logits(logits, target)}


class Summed(CrossEntropy):
    def terms(self, logits, target):
        return {"bce": nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")}


class PooledDice(CrossEntropy):
    def terms(self, logits, target):
        both = logits.sigmoid() * target
        return {"dice": 1 - (2 * both.sum() + 1) / (logits.sigmoid().sum() + target.sum() + 1)}


class PerSample(CrossEntropy):
    def terms(self, logits, target):
        return {"bce": super().terms(logits, target)["bce"].expand(len(logits))}


class Detached(CrossEntropy):
    def terms(self, logits, target):
        return super().terms(logits.detach(), target)


class FirstOnly(CrossEntropy):
    def terms(self, logits, target):
        weight = (torch.arange(len(logits)) == 0).float()
        each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
        return {"bce": (weight * each + (1 - weight) * each.detach()).mean()}


class Backwards(CrossEntropy):
    def terms(self, logits, target):
        return super().terms(-logits, target)


class NaiveLogarithm(CrossEntropy):
    def terms(self, logits, target):
        p = logits.sigmoid()
        return {"bce": -(target * p.log() + (1 - target) * (1 - p).log()).mean()}


class BadSlope(CrossEntropy):
    def terms(self, logits, target):
        return {"root": (logits.sigmoid() - target).abs().sqrt().mean((1, 2)).mean()}


class Bare(CrossEntropy):
    def terms(self, logits, target):
        return super().terms(logits, target)["bce"]


class NoTerms(CrossEntropy):
    def terms(self, logits, target):
        return {}


class Clamping(CrossEntropy):
    def terms(self, logits, target):
        with torch.no_grad():
            logits.clamp_(-5, 5)
        return super().terms(logits, target)


def test_a_sound_loss_passes():
    check_loss(CrossEntropy(modality="ct"))


@table(
    (Summed, "mean over the batch of one value per sample"),
    (PooledDice, "mean over the batch of one value per sample"),
    (PerSample, "named scalar tensors"),
    (NoTerms, "named scalar tensors"),
    (Bare, "named scalar tensors"),
    (Detached, "the gradient"),
    (FirstOnly, "the gradient reaches the logits of every sample"),
    (Backwards, "a perfect prediction costs less than its inverse"),
    (NaiveLogarithm, "every term is finite"),
    (BadSlope, "the gradient is finite"),
    (Clamping, "does not write to them"),
)
def test_a_loss_that_breaks_a_rule_is_told_which(broken, rule):
    assert rule in told(lambda: check_loss(broken(modality="ct"))).partition("; example: ")[0]


# Models.


class Tiny(nn.Module, PromptableModel):
    spec = ModelSpec(
        name="tiny", factory="a:b", summary="s", prompt_kinds=("box", "point"), input_size=32, weights="random",
        lora=LoraSpec(targets=("qkv",), policies={"lora": (), "lora+head": ("head",)}),
    )  # fmt: skip
    weights_sha256 = "random:0"

    def __init__(self):
        nn.Module.__init__(self)
        PromptableModel.__init__(self)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.norm = nn.BatchNorm2d(8)
            self.drop = nn.Dropout(0.5)
            self.qkv = nn.Linear(8, 8)
            self.head = nn.Conv2d(10, 1, 3, padding=1)

    def encode_image(self, pixels):
        patches = self.drop(self.norm(self.patch(pixels))).permute(0, 2, 3, 1)
        return {"features": [torch.tanh(self.qkv(patches)).permute(0, 3, 1, 2)]}

    def where(self, prompt):
        (hint,) = prompt
        if hint.kind not in self.spec.prompt_kinds:
            raise PromptError(f"tiny takes a box or a point, not {hint.kind}")
        x, y = ((hint.x0 + hint.x1) / 2, (hint.y0 + hint.y1) / 2) if hint.kind == "box" else (hint.x, hint.y)
        grid = torch.arange(8) * 4 + 2.0
        return torch.stack([(grid - x).expand(8, 8), (grid - y)[:, None].expand(8, 8)]) / 32

    def decode(self, embedding, prompts):
        (features,) = embedding["features"]
        seen = torch.cat([features.expand(len(prompts), -1, -1, -1), torch.stack([self.where(p) for p in prompts])], 1)
        logits = self.head(seen)[:, 0]
        return Decoded(logits, logits.amax((1, 2)).sigmoid())


class Noisy(Tiny):
    def encode_image(self, pixels):
        embedding = super().encode_image(pixels)
        return {"features": [f + 0.0005 * torch.rand_like(f) for f in embedding["features"]]}


class AcrossTheBatch(Tiny):
    def encode_image(self, pixels):
        return super().encode_image(pixels - pixels.mean(0))


class FirstPromptForAll(Tiny):
    def decode(self, embedding, prompts):
        return super().decode(embedding, [prompts[0]] * len(prompts))


class AcrossThePrompts(Tiny):
    def decode(self, embedding, prompts):
        decoded = super().decode(embedding, prompts)
        shared = len(embedding["features"][0]) < len(prompts)
        return Decoded(decoded.logits - decoded.logits.mean(0) if shared else decoded.logits, decoded.scores)


class Blind(Tiny):
    def where(self, prompt):
        return super().where(prompt) * 0


class TakesAll(Tiny):
    def where(self, prompt):
        return super().where(prompt if prompt[0].kind in self.spec.prompt_kinds else (Point(1, 1),))


class KeyErrorForOthers(Tiny):
    def where(self, prompt):
        if prompt[0].kind not in self.spec.prompt_kinds:
            raise KeyError(prompt[0].kind)
        return super().where(prompt)


class ExtraAxis(Tiny):
    def decode(self, embedding, prompts):
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits[:, None], decoded.scores)


class ScorePerPixel(Tiny):
    def decode(self, embedding, prompts):
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits, decoded.logits)


class NotFinite(Tiny):
    def decode(self, embedding, prompts):
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits, decoded.scores / 0)


class BatchLast(Tiny):
    def encode_image(self, pixels):
        return {"features": [f.permute(1, 2, 3, 0) for f in super().encode_image(pixels)["features"]]}


class NoTensors(Tiny):
    def encode_image(self, pixels):
        return "embedding"


class CutOff(Tiny):
    def encode_image(self, pixels):
        with torch.no_grad():
            return super().encode_image(pixels)


class MovingStatistics(Tiny):
    def encode_image(self, pixels):
        self.norm.train()
        self.norm(self.patch(pixels))
        self.norm.eval()
        return super().encode_image(pixels)


class InPlacePixels(Tiny):
    def encode_image(self, pixels):
        return super().encode_image(pixels.mul_(0.5))


class NoSuchTarget(Tiny):
    spec = Tiny.spec.model_copy(update={"lora": LoraSpec(targets=("qkv", "fc1"))})


class NoSuchModule(Tiny):
    spec = Tiny.spec.model_copy(update={"lora": LoraSpec(targets=("qkv",), policies={"lora+decoder": ("decoder",)})})


class WritesWhenDecoding(Tiny):
    def decode(self, embedding, prompts):
        with torch.no_grad():
            self.norm.running_mean += 0.1
        return super().decode(embedding, prompts)


class OneMaskPerImage(Tiny):
    def decode(self, embedding, prompts):
        return super().decode(embedding, prompts[: len(embedding["features"][0])])


class NoSpec(Tiny):
    spec = None


class NoDigest(Tiny):
    weights_sha256 = None


class NoModule(PromptableModel):
    spec = Tiny.spec
    weights_sha256 = "random:0"

    def encode_image(self, pixels):
        return pixels

    def decode(self, embedding, prompts):
        return Decoded(embedding, embedding)


def test_a_sound_model_passes_and_keeps_its_mode():
    for training in (True, False):
        model = Tiny().train(training)
        model.qkv.requires_grad_(training)
        check_model(model)
        assert model.training is training
        assert model.qkv.weight.requires_grad is training


@table(
    (Noisy, "in eval mode gives the very same result"),
    (AcrossTheBatch, "a batch of images gives what each image gives alone"),
    (FirstPromptForAll, "a batch of images gives what each image gives alone"),
    (AcrossThePrompts, "two prompts on one image give what each gives alone"),
    (Blind, "the prompt matters"),
    (TakesAll, "refused with PromptError"),
    (KeyErrorForOthers, "refused with PromptError"),
    (ExtraAxis, "finite logits (n, h, h)"),
    (ScorePerPixel, "finite scores (n,)"),
    (NotFinite, "finite scores (n,)"),
    (BatchLast, "batch first"),
    (NoTensors, "consists of tensors"),
    (CutOff, "the gradient reaches every LoRA target"),
    (MovingStatistics, "nor to parameters and buffers"),
    (InPlacePixels, "writes neither to the pixels"),
    (NoSuchTarget, "every LoRA target is the last part"),
    (NoSuchModule, "every module that a LoRA policy trains whole exists"),
    (WritesWhenDecoding, "nor to parameters and buffers"),
    (OneMaskPerImage, "two prompts on one image give what each gives alone"),
    (NoSpec, "its record as spec"),
    (NoDigest, "weights_sha256"),
    (NoModule, "a torch.nn.Module"),
)
def test_a_model_that_breaks_a_rule_is_told_which(broken, rule):
    assert rule in told(lambda: check_model(broken())).partition("; example: ")[0]


# Metrics.


class Dice(Metric):
    def compute(self, prediction, reference, spacing):
        total = int(prediction.sum()) + int(reference.sum())
        return 2 * int((prediction & reference).sum()) / total if total else None


class VolumeError(Metric):
    def compute(self, prediction, reference, spacing):
        return abs(int(prediction.sum()) - int(reference.sum())) * float(np.prod(spacing))


class Undefined(Metric):
    def compute(self, prediction, reference, spacing):
        with np.errstate(invalid="ignore"):
            return float(2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()))


class FavoursMore(Metric):
    def compute(self, prediction, reference, spacing):
        return float(prediction.sum() / reference.size)


class AsArray(Dice):
    def compute(self, prediction, reference, spacing):
        score = super().compute(prediction, reference, spacing)
        return None if score is None else np.array(score)


class Never(Metric):
    def compute(self, prediction, reference, spacing):
        return None


class Subtracting(Dice):
    def compute(self, prediction, reference, spacing):
        prediction &= reference
        return super().compute(prediction, reference, spacing)


class MemoryOrder(Dice):
    def compute(self, prediction, reference, spacing):
        flat = prediction.ravel(order="K"), reference.ravel(order="K")
        return super().compute(*flat, spacing)


def test_a_sound_metric_passes():
    check_metric(Dice(), better="higher")
    check_metric(VolumeError(), better="lower")


@table(
    (Undefined, "a finite float, or None"),
    (AsArray, "a finite float, or None"),
    (FavoursMore, "none is better"),
    (Never, "a prediction equal to a reference that is not empty has a score"),
    (Subtracting, "does not write to them"),
    (MemoryOrder, "memory layout does not change the score"),
)
def test_a_metric_that_breaks_a_rule_is_told_which(broken, rule):
    assert rule in told(lambda: check_metric(broken(), better="higher")).partition("; example: ")[0]


def test_a_metric_that_is_registered_the_wrong_way_round_is_told():
    assert "none is better" in told(lambda: check_metric(Dice(), better="lower"))


# Trackers.


class Collecting(Tracker):
    def metrics(self, step, values):
        with (self.run_directory / "rows.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")

    def image(self, name, png, caption):
        (self.run_directory / f"{name}.png").write_bytes(png)

    def finish(self, summary):
        (self.run_directory / "summary.json").write_text(json.dumps(summary))


class NumbersOnly(Tracker):
    def metrics(self, step, values):
        self.total = sum(float(value) for name, value in values.items() if name not in {"event", "case", "target"})


class FromTheBeginning(Tracker):
    def start(self, config, resumed_step):
        if resumed_step:
            raise ValueError("cannot go on")


class Amending(Tracker):
    def metrics(self, step, values):
        values["step"] = step


class Homeless(Tracker):
    def __init__(self):
        super().__init__(run_directory=Path())


class NoTracker:
    def __init__(self, run_directory):
        pass


class NoPictures(Tracker):
    def image(self, name, png, caption):
        raise OSError("no display")


class NoCheckpoints(Tracker):
    def checkpoint(self, step, path):
        path.read_text("ascii").splitlines()[1]


class Finisher(Tracker):
    def finish(self, summary):
        summary["zero_shot"]["cases"].clear()


def test_a_sound_tracker_passes_and_sees_a_whole_run(tmp_path):
    check_tracker(Collecting, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["step"], row["event"]) for row in rows] == [
        (0, "score"), (1, "train"), (2, "train"), (2, "train"), (2, "score"),
    ]  # fmt: skip
    assert sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "case1.png")).shape == (1, 1)
    assert "adapted" in json.loads((tmp_path / "summary.json").read_text())


@table(
    (NumbersOnly, "metrics takes what a run sends"),
    (FromTheBeginning, "start takes what a run sends"),
    (Amending, "metrics takes what a run sends, and does not change it"),
    (Finisher, "finish takes what a run sends, and does not change it"),
    (Homeless, "built with run_directory="),
    (NoTracker, "built with run_directory="),
    (NoPictures, "image is taken"),
    (NoCheckpoints, "checkpoint is taken"),
)
def test_a_tracker_that_breaks_a_rule_is_told_which(broken, rule, tmp_path):
    assert rule in told(lambda: check_tracker(broken, tmp_path)).partition("; example: ")[0]


# Exporters.


class Nifti(Exporter):
    def export(self, segmentation, destination):
        write_segmentation(segmentation, destination)
        return ExportReport((destination,))


class RawError(Exporter):
    def export(self, segmentation, destination):
        destination.write_bytes(b"x")
        return ExportReport((destination,))


class Silent(Nifti):
    def export(self, segmentation, destination):
        try:
            return super().export(segmentation, destination)
        except StorageError:
            return ExportReport((destination,))


class Elsewhere(Nifti):
    def export(self, segmentation, destination):
        return super().export(segmentation, destination.with_name("other.nii.gz"))


class Littering(Nifti):
    def export(self, segmentation, destination):
        destination.with_name("temporary").write_bytes(b"x") if destination.parent.is_dir() else None
        return super().export(segmentation, destination)


class LitteringWhenRefused(Nifti):
    def export(self, segmentation, destination):
        if not destination.parent.is_dir():
            (destination.parent.parent / "half").write_bytes(b"x")
        return super().export(segmentation, destination)


class EmptyFile(Nifti):
    def export(self, segmentation, destination):
        report = super().export(segmentation, destination)
        destination.write_bytes(b"")
        return report


class NoReport(Nifti):
    def export(self, segmentation, destination):
        super().export(segmentation, destination)


class ClearingMasks(Nifti):
    def export(self, segmentation, destination):
        report = super().export(segmentation, destination)
        for mask in segmentation.masks.values():
            mask[:] = False
        return report


def test_a_sound_exporter_passes(tmp_path):
    check_exporter(Nifti(), tmp_path, suffix=".nii.gz")


@table(
    (RawError, "refused with StorageError"),
    (Silent, "refused with StorageError"),
    (LitteringWhenRefused, "nothing is left behind"),
    (Elsewhere, "names the destination"),
    (NoReport, "names the destination"),
    (Littering, "and no others"),
    (EmptyFile, "not empty"),
    (ClearingMasks, "does not change it"),
)
def test_an_exporter_that_breaks_a_rule_is_told_which(broken, rule, tmp_path):
    assert rule in told(lambda: check_exporter(broken(), tmp_path, suffix=".nii.gz")).partition("; example: ")[0]


# Datasets.

SPEC = DatasetSpec(
    name="tiny", factory="a:b", summary="s", modalities=("ct",), targets=(Target(name="tumour", labels={1, 2}),),
    licence="CC0", url="u", citation="c",
)  # fmt: skip


class Folder(DatasetAdapter):
    def case(self, name, path):
        return Case(
            dataset="tiny", case_id=name, patient_id=name[:2], modality="ct", images=(path,),
            labels=(path.with_name(f"{name}-label.nii"),), targets=SPEC.targets, split="train" if name < "p2" else "test",
        )  # fmt: skip

    def discover(self, root):
        found = sorted(path for path in root.glob("*.nii") if "-" not in path.name)
        if not found:
            raise DataError(f"{root}: no *.nii")
        for path in found:
            yield self.case(path.stem, path)


class Unsorted(Folder):
    turn = 0

    def discover(self, root):
        self.turn += 1
        return iter(list(super().discover(root))[:: (-1) ** self.turn])


class AsListed(Folder):
    def discover(self, root):
        return iter(
            sorted(
                super().discover(root),
                key=lambda case: [path.name for path in root.iterdir()].index(f"{case.case_id}.nii"),
            )
        )


class AsGlobbed(Folder):
    def discover(self, root):
        return iter(
            sorted(
                super().discover(root), key=lambda case: [path.stem for path in root.glob("*.nii")].index(case.case_id)
            )
        )


class AsWalked(Folder):
    def discover(self, root):
        names = [name for _, _, files in os.walk(root) for name in files]
        return iter(sorted(super().discover(root), key=lambda case: names.index(f"{case.case_id}.nii")))


class SameId(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"case_id": name[:2]})


class TornPatient(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"split": "train" if name.endswith("a") else "test"})


class OtherTarget(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"targets": (Target(name="liver", labels={1}),)})


class OtherLabel(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"targets": (Target(name="tumour", labels={3}),)})


class OtherModality(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"modality": "mri"})


class OtherDataset(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"dataset": "small"})


class NoFile(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"labels": (path.with_name("absent.nii"),)})


class OtherGrid(Folder):
    def case(self, name, path):
        return super().case(name, path).model_copy(update={"labels": (path.with_name("p2-label.nii"),)})


class NothingThere(Folder):
    def discover(self, root):
        return iter(())


class NotACase(Folder):
    def discover(self, root):
        return iter(sorted(root.glob("*.nii")))


class SilentlyEmpty(Folder):
    def discover(self, root):
        return super().discover(root) if list(root.glob("*.nii")) else iter(())


@pytest.fixture(scope="module")
def tiny_dataset(tmp_path_factory):
    """Three synthetic cases of two patients; the label of the second patient lies on a grid of its own."""
    root = tmp_path_factory.mktemp("tiny")
    for name, spacing in (("p1a", 1.0), ("p1b", 1.0), ("p2", 2.0)):
        image = sitk.Image(4, 4, 4, sitk.sitkInt16)
        image.SetSpacing((spacing,) * 3)
        sitk.WriteImage(image, root / f"{name}.nii")
        sitk.WriteImage(sitk.Cast(image, sitk.sitkUInt8), root / f"{name}-label.nii")
    return root


def test_a_sound_adapter_passes(tiny_dataset):
    check_dataset(Folder(), tiny_dataset, SPEC)
    check_dataset(OtherGrid(), tiny_dataset, SPEC, cases_to_read=0)


class OfManyMeanings(Folder):
    """The organ has another value in each case."""

    def case(self, name, path):
        target = Target(name="organ", labels={len(name)})
        return super().case(name, path).model_copy(update={"targets": (target,)})


def test_settings_may_say_what_a_record_leaves_open(tiny_dataset):
    """A record without modalities and targets takes any, as long as a name has one meaning."""
    said_by_settings = SPEC.model_copy(update={"modalities": (), "targets": ()})
    check_dataset(Folder(), tiny_dataset, said_by_settings)
    message = told(lambda: check_dataset(OfManyMeanings(), tiny_dataset, said_by_settings))
    assert "a target of one name has the same label values in every case" in message


@table(
    (Unsorted, "in the same order"),
    (AsListed, "sort what you list"),
    (AsGlobbed, "sort what you list"),
    (AsWalked, "sort what you list"),
    (SameId, "an id of its own"),
    (TornPatient, "a patient's cases are all in one split"),
    (OtherTarget, "targets are those of the record"),
    (OtherLabel, "targets are those of the record"),
    (OtherModality, "one of the modalities in the record"),
    (OtherDataset, "a case is of the dataset"),
    (NoFile, "the files of a case exist"),
    (OtherGrid, "lie on one grid"),
    (NotACase, "discover finds the cases"),
    (NothingThere, "discover finds the cases"),
    (SilentlyEmpty, "refused with DataError"),
)
def test_an_adapter_that_breaks_a_rule_is_told_which(broken, rule, tiny_dataset):
    assert rule in told(lambda: check_dataset(broken(), tiny_dataset, SPEC)).partition("; example: ")[0]


@pytest.mark.parametrize("backwards", [False, True])
def test_an_unsorted_adapter_is_told_whatever_the_order_of_this_system(backwards, tiny_dataset):
    with _listing(backwards=backwards):
        assert "sort what you list" in told(lambda: check_dataset(AsListed(), tiny_dataset, SPEC))


# Commands.

APP = """
import typer

app = typer.Typer(add_completion=False)

@app.command(epilog={epilog!r})
def hello(name: str = "world") -> None:
    "Say hello."
    print("hello", name)
{more}
"""


def command(tmp_path, monkeypatch, name, epilog="Example: oncoseg hello --name you", more=""):
    (tmp_path / f"{name}.py").write_text(APP.format(epilog=epilog, more=more))
    monkeypatch.syspath_prepend(tmp_path)
    return CommandSpec(name="hello", factory=f"{name}:app", summary="Say hello")


def test_a_sound_command_passes(tmp_path, monkeypatch):
    check_command(command(tmp_path, monkeypatch, "kit_sound"))


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("kit_silent", {"epilog": "Nothing here."}, "shows an example"),
        ("kit_heavy", {"more": "import SimpleITK"}, "--help imports none of"),
        ("kit_empty", {"more": "app = typer.Typer()"}, "--help ends with exit code 0"),
        ("kit_other", {"more": "app = hello"}, "the factory is a typer.Typer app"),
        ("kit_failing", {"more": "raise ValueError"}, "the factory is a typer.Typer app"),
        (
            "kit_lenient",
            {"more": "app = typer.Typer()\napp.command(epilog='Example', context_settings={'ignore_unknown_options': True, 'allow_extra_args': True})(hello)"},
            "an unknown option ends with exit code 2",
        ),
    ],
)  # fmt: skip
def test_a_command_that_breaks_a_rule_is_told_which(name, options, rule, tmp_path, monkeypatch):
    spec = command(tmp_path, monkeypatch, name, **options)
    assert rule in told(lambda: check_command(spec)).partition("; example: ")[0]


def test_a_command_that_cannot_be_imported_alone_is_shown_why(tmp_path, monkeypatch):
    more = "import sys\nif 'pytest' not in sys.modules: raise ValueError('not without a test')"
    spec = command(tmp_path, monkeypatch, "kit_lonely", more=more)
    assert "ValueError: not without a test" in told(lambda: check_command(spec))
