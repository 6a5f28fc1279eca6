"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import DatasetSpec, Target, hookimpl

SPEC = DatasetSpec(
    name="nuclei",
    factory="oncoseg_nuclei.adapter:NucleiAdapter",
    summary="Single nuclei cut out of StarDist's sample image",
    modalities=("fluorescence",),
    targets=(Target(name="nucleus", labels=frozenset({1})),),
    licence="BSD-3-Clause",
    url="https://github.com/stardist/stardist",
    citation="Schmidt et al., Cell Detection with Star-convex Polygons, MICCAI 2018",
)


@hookimpl
def oncoseg_datasets() -> Iterator[DatasetSpec]:
    """The dataset."""
    yield SPEC
