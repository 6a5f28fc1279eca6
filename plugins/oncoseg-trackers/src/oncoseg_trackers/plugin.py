"""What this distribution provides: one record per tracker."""

from collections.abc import Iterator

from oncoseg_core import TrackerSpec, hookimpl


@hookimpl
def oncoseg_trackers() -> Iterator[TrackerSpec]:
    """Trackers that need a library of their own, which the extra of their name installs."""
    yield TrackerSpec(
        name="tensorboard",
        factory="oncoseg_trackers.tensorboard_tracker:TensorBoardTracker",
        summary="Event files for TensorBoard in the run's folder",
    )
    yield TrackerSpec(
        name="wandb",
        factory="oncoseg_trackers.wandb_tracker:WandbTracker",
        summary="Weights & Biases: a project per phase; stays offline where there is no key",
    )
