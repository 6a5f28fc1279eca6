"""Every first-party component passes the kit that plugin authors run; a new one is found here by itself."""

import pytest

from oncoseg_core import (
    AutomaticModelSpec,
    DatasetAdapter,
    DatasetSpec,
    ExporterSpec,
    LossSpec,
    ModelSpec,
    load_plugins,
)
from oncoseg_core.plugins.registry import load_factory
from oncoseg_testing import check_component

REGISTRY = load_plugins()
MODALITIES = ("ct", "mammography")
"""A loss may weigh them apart."""


def test_all_plugins_load():
    REGISTRY.require_sound()
    assert len(REGISTRY.plugins) >= 7


GATED = {"sam3"}
"""Models whose weights are behind a form. ``sam3-tiny`` is the same code."""


def can_be_checked(component):
    """A dataset that cannot be fetched has to be obtained by hand; its plugin checks its adapter on miniatures.

    An exporter that needs the image it belongs to is checked by its plugin, on a written one, and so is an automatic
    model whose structures are those of a folder that its settings name.
    """
    if isinstance(component.spec, AutomaticModelSpec):
        return bool(component.spec.structures)
    if isinstance(component.spec, ModelSpec):
        return component.spec.name not in GATED
    if isinstance(component.spec, ExporterSpec):
        return not component.spec.needs_source
    return not isinstance(component.spec, DatasetSpec) or load_factory(component).fetch is not DatasetAdapter.fetch


CHECKED = [component for component in REGISTRY.components if can_be_checked(component)]


@pytest.mark.parametrize("component", CHECKED, ids=lambda c: f"{c.spec.kind} {c.spec.component_name}")
def test_a_component_keeps_the_contract(component):
    spec = component.spec
    if isinstance(spec, DatasetSpec):
        root = REGISTRY.build(DatasetSpec, spec.name).fetch(lambda what, done, total: None)
        check_component(REGISTRY, component, root=root, cases_to_read=5)
    elif isinstance(spec, LossSpec):
        for modality in MODALITIES:
            check_component(REGISTRY, component, modality=modality)
    else:
        check_component(REGISTRY, component)
