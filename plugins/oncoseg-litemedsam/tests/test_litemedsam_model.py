"""LiteMedSAM with its real weights. The images are synthetic discs: no labelled scan comes with an installed package."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core import Box, Exemplar, Lasso, MaskPrompt, Point, PromptError, Scribble, Text, UsageError
from oncoseg_litemedsam.model import LiteMedSAM, LiteMedSAMSettings
from oncoseg_litemedsam.plugin import LITEMEDSAM, oncoseg_models


@pytest.fixture(scope="module")
def model():
    return LiteMedSAM()


def disc(x, y, radius):
    """A bright disc on a darker, noisy ground: pixels (1, 3, 256, 256) in [0, 1] and its mask (256, 256)."""
    rows, columns = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    noise = 0.05 * torch.randn(256, 256, generator=torch.Generator().manual_seed(int(x)))
    image = (torch.where(mask, 0.7, 0.3) + noise).clamp(0, 1)
    return image.expand(1, 3, 256, 256), mask


def around(x, y, radius, margin=3.0):
    return (Box(x - radius - margin, y - radius - margin, x + radius + margin, y + radius + margin),)


def dice(logits, mask):
    found = logits > 0
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum()))


DISCS = [(60.0, 80.0, 20.0), (180.0, 150.0, 35.0)]


@pytest.fixture(scope="module")
def embeddings(model):
    with torch.inference_mode():
        return [model.encode_image(disc(*place)[0]) for place in DISCS]


def decode(model, embedding, prompts):
    with torch.inference_mode():
        return model.decode(embedding, prompts)


def test_record_and_light_plugin():
    assert list(oncoseg_models()) == [LITEMEDSAM]
    assert LiteMedSAM.spec is LITEMEDSAM
    code = "import sys, oncoseg_litemedsam.plugin; print({'torch', 'timm', 'peft', 'safetensors'} & set(sys.modules))"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "set()"


def test_builds_without_warnings_network_or_files(tmp_path):
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from oncoseg_litemedsam.model import LiteMedSAM\n"
        "model = LiteMedSAM()\n"
        "print(model.training, model.weights_sha256, sum(p.numel() for p in model.parameters()))"
    )
    built = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    assert built.stdout.split() == [
        "False",
        "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        "9791300",
    ]
    assert list(tmp_path.rglob("*.*")) == []


def test_shapes_and_quality_on_a_disc(model, embeddings):
    for place, embedding in zip(DISCS, embeddings, strict=True):
        decoded = decode(model, embedding, [around(*place)])
        assert embedding.shape == (1, 256, 64, 64)
        assert decoded.logits.shape == (1, 256, 256)
        assert decoded.scores.shape == (1,)
        assert dice(decoded.logits[0], disc(*place)[1]) > 0.95
        assert 0.7 < decoded.scores[0] < 1.05


def test_one_image_serves_many_prompts(model, embeddings):
    prompts = [around(*DISCS[0], margin=m) for m in (0.0, 2.0, 7.5)]
    together = decode(model, embeddings[0], prompts)
    for i, prompt in enumerate(prompts):
        alone = decode(model, embeddings[0], [prompt])
        torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(together.scores[i], alone.scores[0], atol=1e-5, rtol=0)
    assert (together.logits[0] - together.logits[2]).abs().max() > 0.1


def test_a_batch_of_images_pairs_with_its_prompts(model, embeddings):
    prompts = [around(*place) for place in DISCS]
    paired = decode(model, torch.cat(embeddings), prompts)
    for i in range(2):
        alone = decode(model, embeddings[i], [prompts[i]])
        torch.testing.assert_close(paired.logits[i], alone.logits[0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(paired.scores[i], alone.scores[0], atol=1e-5, rtol=0)
    assert dice(paired.logits[0], disc(*DISCS[0])[1]) > 0.95
    assert dice(paired.logits[1], disc(*DISCS[1])[1]) > 0.95


def test_encoding_in_a_batch_is_encoding_one_by_one(model, embeddings):
    with torch.inference_mode():
        batch = model.encode_image(torch.cat([disc(*place)[0] for place in DISCS]))
    torch.testing.assert_close(batch, torch.cat(embeddings), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("images", "prompts"), [(2, 3), (2, 1), (3, 2)])
def test_images_and_prompts_that_do_not_pair(images, prompts, model, embeddings):
    with pytest.raises(UsageError, match=f"{images} embedded images for {prompts} prompts"):
        decode(model, embeddings[0].expand(images, -1, -1, -1), [around(*DISCS[0])] * prompts)


@settings(max_examples=15, deadline=None)
@given(column=st.integers(0, 62), row=st.integers(0, 62), width=st.integers(1, 63), height=st.integers(1, 63))
def test_a_corner_is_encoded_where_the_image_is_encoded(model, column, row, width, height):
    """The embedding's cell (row, column) has its centre at 4 (row + 0.5), 4 (column + 0.5) pixels of the input."""
    right, bottom = min(column + width, 63), min(row + height, 63)
    seen = {}
    box = Box(*(4 * (cell + 0.5) for cell in (column, row, right, bottom)))
    handle = model.prompt_encoder.register_forward_hook(lambda _, __, out: seen.update(sparse=out[0]))
    try:
        decode(model, torch.zeros(1, 256, 64, 64), [(box,)])
    finally:
        handle.remove()
    image = model.prompt_encoder.get_dense_pe()[0]
    corners = model.prompt_encoder.point_embeddings
    first, second = seen["sparse"][0, 0] - corners[2].weight[0], seen["sparse"][0, 1] - corners[3].weight[0]
    torch.testing.assert_close(first, image[:, row, column], atol=1e-4, rtol=0)
    torch.testing.assert_close(second, image[:, bottom, right], atol=1e-4, rtol=0)


def test_an_overhanging_box_is_cut_to_the_input(model, embeddings):
    over = decode(model, embeddings[0], [(Box(-40, 30, 90, 300),)])
    cut = decode(model, embeddings[0], [(Box(0, 30, 90, 256),)])
    assert torch.equal(over.logits, cut.logits)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ((Point(5, 5),), "found point"),
        ((Text("tumour"),), "found text"),
        ((Exemplar(1, 1, 5, 5),), "found exemplar"),
        ((MaskPrompt(torch.ones(256, 256, dtype=torch.bool).numpy()),), "found mask"),
        ((Box(1, 1, 5, 5), Point(3, 3)), "found box and point"),
        ((Box(1, 1, 5, 5), Box(9, 9, 12, 12)), "found box and box"),
        ((Scribble(((1, 1), (5, 5))),), "found scribble"),
        ((Box(1, 1, 5, 5), Lasso(((1, 1), (5, 5), (1, 5)))), "found box and lasso"),
        ((), "found nothing"),
    ],
)
def test_other_prompts_are_refused_and_told_what_is_taken(prompt, found, model, embeddings):
    with pytest.raises(PromptError, match=f"takes exactly one box per object, {found}"):
        decode(model, embeddings[0], [prompt])


def test_a_lasso_is_taken_by_the_box_around_it_as_the_record_says(model, embeddings):
    assert LITEMEDSAM.reads_as == {"lasso": "the box around it"}
    lasso = Lasso(((60, 80), (150, 100), (90, 170)))
    one, other = decode(model, embeddings[0], [(lasso,)]), decode(model, embeddings[0], [(Box(60, 80, 150, 170),)])
    assert torch.equal(one.logits, other.logits)


def test_no_prompt_and_a_box_elsewhere(model, embeddings):
    with pytest.raises(PromptError, match="at least one box"):
        decode(model, embeddings[0], [])
    with pytest.raises(PromptError, match="outside the model's input"):
        decode(model, embeddings[0], [(Box(256, 10, 280, 20),)])


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 1, 256, 256), (1, 3, 512, 512)])
def test_pixels_of_another_shape(shape, model):
    with pytest.raises(UsageError, match=r"takes pixels \(batch, 3, 256, 256\)"):
        model.encode_image(torch.zeros(shape))


def test_channels_last_answers_the_same_but_for_rounding():
    pixels = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    expected, found = LiteMedSAM(), LiteMedSAM(LiteMedSAMSettings(channels_last=True))
    layouts = [one.is_contiguous(memory_format=torch.channels_last) for one in found.parameters() if one.ndim == 4]
    assert all(layouts)
    with torch.inference_mode():
        masks = [model.decode(model.encode_image(pixels), [(Box(60, 70, 120, 150),)]) for model in (expected, found)]
    torch.testing.assert_close(masks[1].logits, masks[0].logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(masks[1].scores, masks[0].scores, atol=1e-4, rtol=1e-4)


def test_the_encoder_is_compiled_when_that_is_set(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append((module, options)))
    LiteMedSAM()
    model = LiteMedSAM(LiteMedSAMSettings(compile=True))
    assert compiled == [(model.image_encoder, {"dynamic": False})]


def test_settings_are_strict():
    with pytest.raises(ValueError, match="weight"):
        LiteMedSAMSettings(weight="x.pth")
