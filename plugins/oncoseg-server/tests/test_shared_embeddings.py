"""Embeddings are shared, and none is ever served for another image, adapter, window, precision or model."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_engine import Brighter, registry_of

from oncoseg_core import Geometry, Volume
from oncoseg_core.path import Window
from oncoseg_segment.api import SegmentSettings
from oncoseg_server.config.settings import Limits
from oncoseg_server.sessions.embeddings import ModelEmbeddings, SharedEmbeddings
from oncoseg_server.sessions.models import Models

SETTINGS = SegmentSettings(model="brighter", modality="unit", model_settings={"weights": "abc"}, zoom=None)


def volume(seed=0, spacing=(2.5, 0.5, 0.5), shape=(3, 128, 128)):
    voxels = np.random.default_rng(seed).random((1, *shape), dtype=np.float32)
    return Volume(voxels, Geometry.from_parts(shape, spacing), "unit")


def served(loaded, image, index, window=None):
    """The embedding that a session gets, and the one that it would get without a cache."""
    opened = loaded.open(image)
    with opened.predictor.inference():
        given_one = opened.predictor.embed(opened.fitted, index, window)
        right = opened.predictor._encode(opened.fitted, index, window)
    return given_one, right


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return all(same(part, counterpart) for part, counterpart in zip(one, other, strict=True))


def model(shared, **changes):
    models = Models({"m": SETTINGS.model_copy(update=changes)}, registry_of(), shared)
    return models.get("m").loaded


WINDOWS = [
    None,
    Window(0, 0, 64, 64),
    Window(0, 1, 64, 64),
    Window(1, 0, 64, 64),
    Window(0, 0, 64, 65),
    Window(0, 0, 128, 127),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),  # image
            st.integers(0, 2),  # slice
            st.sampled_from(WINDOWS),
            st.sampled_from([(2.5, 0.5, 0.5), (2.5, 0.5, 0.7)]),  # anisotropy changes the way into the input
            st.sampled_from(["letterbox", "stretch"]),
        ),
        min_size=2,
        max_size=12,
    )
)
def test_an_embedding_is_always_of_the_very_pixels(prompts):
    """micro-sam once served the masks of the first image for all others (its pull request 1347)."""
    shared = SharedEmbeddings(10**9)
    loaded = {fit: model(shared, fit=fit) for fit in ("letterbox", "stretch")}
    for seed, index, window, spacing, fit in prompts:
        given_one, right = served(loaded[fit], volume(seed, spacing), index, window)
        assert same(given_one, right)


class Weighted(Brighter):
    """The toy with a weight that its embedding depends on."""

    def __init__(self, settings=None):
        super().__init__(settings)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, pixels):
        return pixels[:, 0] * self.weight


def test_other_weights_never_get_it():
    shared = SharedEmbeddings(10**9)
    image, loaded = volume(), model(shared)
    network = Weighted()
    loaded.model = network
    for value in (1.0, 2.0, 3.0, 2.0):
        with torch.no_grad():
            network.weight.fill_(value)
        given_one, right = served(loaded, image, 1)
        assert same(given_one, right)
    assert shared.misses == 3  # the second time that it was 2, the embedding was there


def test_an_adapter_that_is_switched_off_never_gets_it():
    """What PEFT does without touching a parameter."""
    shared = SharedEmbeddings(10**9)
    image, loaded = volume(), model(shared)

    class Switched(Weighted):
        disable_adapters = False

        def encode_image(self, pixels):
            return pixels[:, 0] * (1 if self.disable_adapters else 2)

    loaded.model = network = Switched()
    for off in (False, True, False):
        network.disable_adapters = off
        given_one, right = served(loaded, image, 0)
        assert same(given_one, right)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"model_settings": {"weights": "another"}}])
def test_other_settings_never_get_it(change):
    shared = SharedEmbeddings(10**9)
    served(model(shared), volume(), 0)
    before = shared.misses
    served(model(shared, **change), volume(), 0)
    assert shared.misses == before + 1
    served(model(shared, **change), volume(), 0)
    assert shared.misses == before + 1


def test_two_configured_models_share_the_memory_and_nothing_else():
    shared = SharedEmbeddings(100)
    one, other = ModelEmbeddings(shared, "one"), ModelEmbeddings(shared, "other")
    one.put("key", torch.zeros(10))
    assert other.get("key") is None
    other.put("key", torch.ones(10))
    assert torch.equal(other.get("key"), torch.ones(10))
    assert torch.equal(one.get("key"), torch.zeros(10))
    one.put("more", torch.zeros(10))
    assert shared.bytes <= 100
    one.clear()
    assert shared.bytes > 0


def test_two_clients_of_one_series_encode_a_slice_once(make_client, open_session):
    client = make_client(encode_ahead={"enabled": False})
    first, second = open_session(client), open_session(client)
    before = Brighter.encoded
    for session in (first, second):
        session.box(index=3)
        session.box(numbers=(50, 30, 62, 52), index=3)
    assert Brighter.encoded == before + 1


def test_threads_cannot_break_the_count_of_bytes():
    shared = SharedEmbeddings(4_000)
    wrong = []

    def work(thread):
        for number in range(400):
            key = str(number % 37)
            shared.put(key, torch.full((25,), float(key)))
            found = shared.get(key)
            if found is not None and found[0] != float(key):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []
    assert shared.bytes == sum(size for _, size in shared._entries.values()) <= 4_000


def test_the_limit_is_the_settings(make_client):
    client = make_client(limits={"embeddings_mb": 7})
    assert client.app.state.server.embeddings.max_bytes == 7_000_000
    assert Limits().embeddings_mb == 1_024


def test_what_is_on_its_way_is_waited_for_and_not_made_twice():
    own = ModelEmbeddings(SharedEmbeddings(1_000), "m")
    found, encoding, may_end = [], threading.Event(), threading.Event()

    def encodes_ahead():
        with own.ahead():
            assert own.get("key") is None
            encoding.set()
            may_end.wait(10)
            own.put("key", torch.ones(1))

    ahead = threading.Thread(target=encodes_ahead)
    ahead.start()
    encoding.wait(10)
    prompt = threading.Thread(target=lambda: found.extend([own.get("key"), own.encode_seconds]))
    prompt.start()
    prompt.join(0.1)
    assert found == []
    may_end.set()
    prompt.join(10)
    assert torch.equal(found[0], torch.ones(1))
    assert found[1] > 0.05  # the client learns what it waited for
    ahead.join()


def test_what_failed_on_its_way_is_made_by_the_next():
    own = ModelEmbeddings(SharedEmbeddings(1_000), "m")

    def fails():
        with own.ahead():
            own.get("key")
            raise MemoryError

    with pytest.raises(MemoryError):
        fails()
    assert own.get("key") is None
    assert own._on_the_way == {}
    own.get("another")  # a thread that encodes for a prompt announces nothing
    assert own._on_the_way == {}
