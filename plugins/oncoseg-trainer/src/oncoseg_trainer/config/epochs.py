"""How many epochs a data set of a certain size is trained for."""

from __future__ import annotations

from oncoseg_trainer.config.training_settings import OptimisationSettings


def choose_epochs(settings: OptimisationSettings, cases: int) -> int:
    """The number of epochs that was set, or, for ``auto``, that which the table has for so many training cases."""
    if settings.epochs != "auto":
        return settings.epochs
    return settings.epochs_by_cases[max(start for start in settings.epochs_by_cases if start <= cases)]
