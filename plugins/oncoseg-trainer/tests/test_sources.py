"""Cases from memory and from a prepared store look the same; memory is bounded and workers get no voxels."""

import pickle

import numpy as np
import pytest
import torch

from oncoseg_core import ConfigError, DataError, DatasetSpec, ModelSpec, PromptGeneratorSpec, load_plugins
from oncoseg_core.imaging.voxel_hash import content_hash
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.path.settings import PathSettings
from oncoseg_prompts.api import Prompting
from oncoseg_store.one_case import PreparationJob
from oncoseg_store.preparing import prepare_dataset
from oncoseg_trainer.config.data_settings import DatasetChoice
from oncoseg_trainer.data.case_selection import DatasetLookup
from oncoseg_trainer.data.case_source import MemorySource
from oncoseg_trainer.data.prepared_source import StoreDataset
from oncoseg_trainer.data.prompting import PromptMixture
from oncoseg_trainer.data.samples import SampleMaker
from oncoseg_trainer.data.sampling import Draw, LabelledSampler, LabelledSlices


@pytest.fixture
def opened(toy, tiny_plugin):
    root = toy("toy-a", [{}, {"slices": (0, 6), "core": ()}, {"slices": (), "core": ()}])
    choice = DatasetChoice(dataset="toy-a", root=root)
    (dataset,) = DatasetLookup(load_plugins(), [choice]).open(None)
    return dataset


@pytest.fixture
def path(tiny_plugin):
    registry = load_plugins()
    return {"ct": Preprocessor(registry, "ct", registry.get(ModelSpec, "tiny"))}


@pytest.fixture
def stored(opened, tmp_path):
    """The same cases in a prepared store."""
    folder = tmp_path / "store"
    prepare_dataset(load_plugins(), PreparationJob("toy-a", folder, {}, {}), opened.choice.root, workers=1)
    return StoreDataset(DatasetChoice(dataset="toy-a", prepared=folder), opened.spec)


def test_a_store_and_memory_give_the_same(opened, stored, path):
    numbers, targets = [2, 0, 1], ("core", "tumour")
    memory = opened.source(numbers, targets, path, 10**9)
    store = stored.source(numbers, targets, path, 0)
    assert len(memory) == len(store) == 3
    assert stored.bad == opened.bad == {}
    assert [stored.row(number) for number in range(3)] == [opened.row(number) for number in range(3)]
    for number in range(3):
        assert memory.record(number) == store.record(number)
        assert memory.content_hash(number) == store.content_hash(number)
        volume, masks = memory.load(number)
        assert memory.content_hash(number) == content_hash(volume.voxels, volume.geometry)
        again, same = store.load(number)
        assert np.array_equal(volume.voxels, again.voxels)
        assert list(masks) == list(same)
        assert all(np.array_equal(masks[name], same[name]) for name in masks)
    for target, expected in (("tumour", [0, 3, 2]), ("core", [0, 1, 0])):
        assert memory.slice_counts(target).tolist() == store.slice_counts(target).tolist() == expected
    generator = load_plugins().build(PromptGeneratorSpec, "box")
    one, other = (
        SampleMaker([source], [None], path, PromptMixture.of(Prompting(generator)), 0) for source in (memory, store)
    )
    sampler = LabelledSampler([LabelledSlices.of(memory, targets)], 0)
    for position in range(len(sampler)):
        left, right = (made.make(sampler.draw(0, position), 0) for made in (one, other))
        assert left.name == right.name
        assert left.prompt == right.prompt
        assert torch.equal(left.pixels, right.pixels)
        assert torch.equal(left.target, right.target)


def test_targets_are_reduced_to_the_chosen_ones(opened, stored, path):
    for source in (opened.source([0], ("core",), path, 0), stored.source([0], ("core",), path, 0)):
        assert [target.name for target in source.record(0).targets] == ["core"]
        assert list(source.load(0)[1]) == ["core"]


def test_a_store_of_another_dataset_or_other_settings_is_refused(opened, stored):
    registry = load_plugins()
    lung = PathSettings(normalizers={"ct": {"window": "lung"}})
    with pytest.raises(DataError, match="prepare it anew"):
        stored.source([0], ("core",), {"ct": Preprocessor(registry, "ct", registry.get(ModelSpec, "tiny"), lung)}, 0)
    with pytest.raises(ConfigError, match="store: is a store of dataset 'toy-a', not 'toy-b'"):
        StoreDataset(
            DatasetChoice(dataset="toy-b", prepared=stored.choice.prepared), registry.get(DatasetSpec, "toy-b")
        )


def test_what_could_not_be_prepared_is_told(opened, tmp_path):
    label = opened.source([1], ("core",), {}, 0).record(0).labels[0]
    label.write_bytes(label.read_bytes()[:40])
    folder = tmp_path / "store"
    prepare_dataset(load_plugins(), PreparationJob("toy-a", folder, {}, {}), opened.choice.root, workers=1)
    stored = StoreDataset(DatasetChoice(dataset="toy-a", prepared=folder), opened.spec)
    assert list(stored.bad) == ["toy-a-1"]
    assert [stored.row(number).case_id for number in range(len(stored))] == ["toy-a-0", "toy-a-2"]


def test_memory_is_bounded_and_is_not_sent_to_workers(opened, path):
    reads = []
    adapter = load_plugins().build(DatasetSpec, "toy-a")
    load, adapter.load = adapter.load, lambda case: (reads.append(case.case_id), load(case))[1]
    cases = list(adapter.discover(opened.choice.root))
    size = MemorySource(adapter, cases, path).case(0).nbytes
    reads.clear()
    source = MemorySource(adapter, cases, path, memory_bytes=2 * size)
    for number in (0, 1, 0, 2, 0, 1):
        source.case(number)
    assert reads == ["toy-a-0", "toy-a-1", "toy-a-2", "toy-a-1"]  # the least recently used had gone
    del adapter.load
    assert len(pickle.dumps(source)) < 20_000 < size
    source.release()
    assert pickle.loads(pickle.dumps(source)).case(1).content_hash == source.case(1).content_hash


def test_a_draw_reads_the_slice_that_it_names(opened, path):
    source = opened.source([1], ("tumour",), path, 0)
    generator = load_plugins().build(PromptGeneratorSpec, "box")
    make = SampleMaker([source], [None], path, PromptMixture.of(Prompting(generator)), 0).make
    assert [make(Draw(0, 0, 0, "tumour", nth), 0).name for nth in (0, 1)] == [
        "toy-a-1 slice 0 (tumour)",
        "toy-a-1 slice 6 (tumour)",
    ]
