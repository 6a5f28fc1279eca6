"""``oncoseg node retry``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def retry(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")],
    job: Annotated[int | None, typer.Argument(help="The job's number, as oncoseg node status shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All failed jobs; refused ones only by their number.")] = False,
) -> None:
    """Try a failed job again at the step that failed, or a refused one from its examination; the node may run."""
    from oncoseg_core import UsageError
    from oncoseg_core.cli import say
    from oncoseg_node.audit.audit import FOLDER, Audit
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.config.salt import read_salt
    from oncoseg_node.queue.queue import open_queue
    from oncoseg_node.records.job import State
    from oncoseg_node.work.dead_letter import unbury

    if every == (job is not None):
        raise UsageError("give the number of a job, or --all")
    settings = read_settings(config)
    queue = open_queue(settings.data)
    audit = Audit(settings.data / FOLDER, read_salt(settings.data))
    chosen = queue.jobs([State.FAILED]) if job is None else [queue.job(job)]
    for one in chosen:
        try:
            begun = queue.retry(one)
        except UsageError as error:
            if job is not None:
                raise
            say(str(error), err=True)
            continue
        unbury(settings.data, one)
        audit.write("retried", job=one.id, series_uid=one.series_uid, state=begun.state)
        say(f"job {one.id}: {begun.state}")
    if not chosen:
        say("no job failed")
    queue.close()
