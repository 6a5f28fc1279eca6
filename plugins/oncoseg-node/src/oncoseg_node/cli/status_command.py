"""``oncoseg node status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in the queue, whether the node runs or not; without patient data."""
    import time

    from oncoseg_core.cli import say, say_json
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.queue.queue import open_queue
    from oncoseg_node.service.lock import is_running
    from oncoseg_node.service.status import queue_status

    settings = read_settings(config)
    queue = open_queue(settings.data)
    content = {"running": is_running(settings.data), **queue_status(queue, time.time())}
    queue.close()
    if as_json:
        say_json(content)
        return
    for line in _lines(content):
        say(line)


def _lines(content: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in content["jobs by state"].items() if count)
    lines = [f"the node {'runs' if content['running'] else 'does not run'}; {counts or 'no series yet'}"]
    lines += [f"job {one['job']}: {_job(one)}" for one in content["jobs"]]
    return lines


def _job(one: dict[str, Any]) -> str:
    parts = [one["state"], one["rule"], f"for {one['in state seconds']:.0f} s"]
    if one["attempts"] > 1:
        parts.append(f"attempt {one['attempts']}")
    if one["waits seconds"]:
        parts.append(f"again in {one['waits seconds']:.0f} s")
    return ", ".join(part for part in parts if part) + (f": {one['reason']}" if one["reason"] else "")
