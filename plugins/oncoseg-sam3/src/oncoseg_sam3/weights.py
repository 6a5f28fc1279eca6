"""SAM3's weights: Meta's checkpoint from the Hugging Face hub, a local file in a known layout, or random numbers.

Meta's ``sam3.pt`` has 1465 tensors: 1156 under ``detector.`` and 309 under ``tracker.``, the latter for what its image
model calls ``inst_interactive_predictor.model.``. Which other layouts are read is in :mod:`oncoseg_sam3.layouts`.
"""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from oncoseg_core import WeightsError
from oncoseg_core.system import not_fetched, open_regular
from oncoseg_sam3.layouts import Weights
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.huggingface import PREDICTOR
from oncoseg_sam3.network.patches import Image
from oncoseg_sam3.network.sizes import Size

HUB_REPOSITORY = "facebook/sam3"
HUB_FILE = "sam3.pt"
PATIENCE_S = 4
"""So long is waited for the hub's first answer."""
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
"""Of files that are read."""
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+) was not")
"""What ``torch.load(weights_only=True)`` says of an object that it does not unpickle."""
RANDOM = re.compile(r"random:(\d{1,18})")

WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "net", "network", "ema", "ema_state_dict", "model_ema")
"""Under which keys programs keep a model's tensors: Meta's trainer and its files, Lightning, training scripts."""


def network_with_weights(size: Size, source: str) -> tuple[Image, str]:
    """Build SAM3 and fill it.

    Args:
        size: of the network.
        source: ``hub``, ``random:<seed>``, or the path of a local ``.pt``, ``.ckpt`` or ``.safetensors`` in one of
            the layouts, for which nothing is asked of the network.

    Returns:
        The network in eval mode, without its interactive predictor if the file has no tracker, and the file's
        SHA-256, or ``random:<seed>``.

    Raises:
        WeightsError: the file cannot be had or read, or its tensors are not those of this size.
    """
    seed = RANDOM.fullmatch(source)
    if seed:
        warnings.warn(
            f"SAM3 is built with random weights ({source}): its masks and scores mean nothing",
            UserWarning,
            stacklevel=2,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed[1]))  # torch.manual_seed would seed the GPUs too
            return build_network(size), source
    path = from_hub() if source == "hub" else Path(source).expanduser()
    network = build_network(size, "meta")
    return network, load_weights(network, path)


def load_weights(network: Image, path: Path) -> str:
    """Fill a network from a file in one of the layouts.

    The file is mapped, not copied: its tensors become the network's parameters, and are copied page by page where
    training changes them; only what a layout has in parts is copied. It must stay as it is while the network is in use;
    replacing it by renaming is harmless.

    Args:
        network: from :func:`~oncoseg_sam3.network.builder.build_network`, on any device, ``meta`` included; its
            parameters are replaced by ones on the CPU.
        path: a ``.safetensors``, or a ``.pt`` or ``.ckpt``, read by ``torch.load(weights_only=True)``, its tensors at
            the top or under one of the keys ``WRAPPERS``.

    Returns:
        The file's SHA-256.

    Raises:
        WeightsError: as for :func:`network_with_weights`.
    """
    digest, before = _sha256(path)
    found = Weights(_tensors(path), path)
    whole = network.state_dict()
    if not found.has_any(whole, PREDICTOR):
        network.inst_interactive_predictor = None
        network.backbone.vision_backbone.sam2_convs = None
    expected = network.state_dict()
    state = found.state(expected, {name: whole[name] for name in whole.keys() - expected.keys()})
    _compute(network)
    network.load_state_dict(
        {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}, strict=False, assign=True
    )
    if _identity(path) != before:
        raise WeightsError(f"{path}: the file was changed while it was read; load it again")
    return digest


def from_hub() -> Path:
    """Meta's ``sam3.pt`` (3.4 GB) from the hub's cache, downloaded when it is not there.

    Raises:
        WeightsError: it cannot be had; the message says what to do.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    what = f"{HUB_FILE} of {HUB_REPOSITORY} on the Hugging Face hub"
    instead = f"or download {HUB_FILE} by other means and give its path as the model's setting weights"
    if not _answers():
        cached = try_to_load_from_cache(HUB_REPOSITORY, HUB_FILE)
        if isinstance(cached, str):
            return Path(cached)
        raise WeightsError(
            f"{what} is not in the local cache and {constants.ENDPOINT} cannot be reached (or HF_HUB_OFFLINE is set): "
            f"connect once, {instead}"
        )
    try:
        return Path(hf_hub_download(HUB_REPOSITORY, HUB_FILE, etag_timeout=PATIENCE_S))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise WeightsError(
            f"{what} is behind a form: accept Meta's SAM License at https://huggingface.co/{HUB_REPOSITORY} with your "
            f"account, then log in with `hf auth login` or set HF_TOKEN to a token of it, {instead}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{what} is not in the local cache and the hub cannot be reached (or HF_HUB_OFFLINE is set): connect once, "
            f"{instead}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{what} could not be downloaded: {reason}; try again, {instead}") from error


def _answers() -> bool:
    """Whether the hub says anything of the file in ``PATIENCE_S``, be it no; its library would try for minutes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    answers: list[bool] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(HUB_REPOSITORY, HUB_FILE), timeout=PATIENCE_S)
        except HfHubHTTPError as error:  # a proxy in between has answers of its own from 500 on
            answers.append(error.response is not None and error.response.status_code < 500)
        except Exception:  # noqa: BLE001 - that it does not answer is all there is to know
            answers.append(False)
        else:
            answers.append(True)

    # In a thread, because looking up the hub's name has no time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return answers == [True]


def _sha256(path: Path) -> tuple[str, tuple[int, ...]]:
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(
            f"{path}: unknown kind of weights; expected hub, random:<seed>, or a file ending in {', '.join(SUFFIXES)}"
        )
    missing = not_fetched(path)
    if missing is not None:
        raise WeightsError(f"{path}: {missing}")
    try:
        before = _identity(path)
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), before
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or error}; give an existing file as the model's setting weights"
        ) from error


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as stream:
                return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - it is no mapping
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        needs = FORBIDDEN.search(str(error))
        if needs is not None:
            raise WeightsError(
                f"{path}: holds an object of Python ({needs[1]}) beside the tensors, and no object is ever unpickled; "
                "where it was made, save the tensors alone: torch.save(checkpoint['state_dict'], ...)"
            ) from error
        raise WeightsError(
            f"{path}: not a readable file of tensors, perhaps cut short ({type(error).__name__}); "
            "expected what torch.save(model.state_dict(), ...) or safetensors writes"
        ) from error
    return _unwrapped(loaded, path)


def _unwrapped(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    """The model's tensors by name, from below the key under which a program keeps them."""
    kept = [key for key in WRAPPERS if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping)]
    if len(kept) > 1:
        raise WeightsError(
            f"{path}: holds several sets of tensors ({', '.join(kept)}); save the one that is meant alone: "
            f"torch.save(checkpoint[{kept[0]!r}], ...)"
        )
    if kept:
        loaded = loaded[kept[0]]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(
            f"{path}: holds other things than tensors by name; expected Meta's {HUB_FILE} or its like, also below one "
            f"of the keys {', '.join(WRAPPERS)}"
        )
    return dict(loaded)


def _compute(network: Image) -> None:
    """Fill the tensors that no file need have, as Meta's classes do when they are built."""
    for block in network.backbone.vision_backbone.trunk.blocks:
        block.attn._setup_rope_freqs()  # noqa: SLF001
    text = network.backbone.language_backbone.encoder
    text.attn_mask = text.build_causal_mask()
