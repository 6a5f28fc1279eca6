"""Every first-party component passes the kit that plugin authors run; a new one is found here by itself."""

from functools import partial

import pytest

from oncoseg_core import testing
from oncoseg_core.interfaces import DatasetAdapter
from oncoseg_core.records import (
    CommandSpec,
    DatasetSpec,
    LossSpec,
    MetricSpec,
    ModelSpec,
    NormalizerSpec,
    PromptGeneratorSpec,
    TrackerSpec,
)
from oncoseg_core.registry import load_factory, load_plugins

REGISTRY = load_plugins()


def each(spec_type):
    return pytest.mark.parametrize("spec", REGISTRY.specs(spec_type), ids=lambda spec: spec.component_name)


def test_all_plugins_load():
    REGISTRY.require_sound()
    assert len(REGISTRY.plugins) >= 7


@each(NormalizerSpec)
def test_normalizers(spec):
    testing.check_normalizer(REGISTRY.build(NormalizerSpec, spec.modality), accepts_nan=spec.accepts_nan)


def served_by_the_index():
    """The datasets that can be fetched. Others have to be obtained by hand; their plugin checks them on miniatures."""
    specs = REGISTRY.specs(DatasetSpec)
    return [
        spec
        for spec in specs
        if load_factory(REGISTRY.component(DatasetSpec, spec.name)).fetch is not DatasetAdapter.fetch
    ]


@pytest.mark.parametrize("spec", served_by_the_index(), ids=lambda spec: spec.component_name)
def test_datasets(spec):
    adapter = REGISTRY.build(DatasetSpec, spec.name)
    testing.check_dataset(adapter, adapter.fetch(lambda what, done, total: None), spec, cases_to_read=5)


@each(PromptGeneratorSpec)
def test_prompt_generators(spec):
    testing.check_prompt_generator(REGISTRY.build(PromptGeneratorSpec, spec.name), makes=spec.makes)


@each(LossSpec)
@pytest.mark.parametrize("modality", ["ct", "mammography"])
def test_losses(spec, modality):
    testing.check_loss(REGISTRY.build(LossSpec, spec.name, modality=modality))


@each(ModelSpec)
def test_models(spec):
    testing.check_model(REGISTRY.build(ModelSpec, spec.name))


@each(MetricSpec)
def test_metrics(spec):
    testing.check_metric(REGISTRY.build(MetricSpec, spec.name), better=spec.better)


@each(TrackerSpec)
def test_trackers(spec, tmp_path):
    testing.check_tracker(partial(REGISTRY.build, TrackerSpec, spec.name), tmp_path)


@each(CommandSpec)
def test_commands(spec):
    testing.check_command(spec)
