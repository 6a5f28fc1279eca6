"""What the node is at, without patient data: for the page, as JSON, and for ``oncoseg node status``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import ENDS, Job, State
from oncoseg_node.work.lane import Lane

MOST_JOBS = 200


def queue_status(queue: Queue, now: float) -> dict[str, Any]:
    """Counts by state, the age of the oldest job that is on its way, and jobs: those on their way, then the newest."""
    open_jobs = queue.jobs([state for state in State if state not in ENDS], most=MOST_JOBS)
    ended = queue.jobs(ENDS, most=MOST_JOBS, newest_first=True)
    return {
        "jobs by state": {str(state): count for state, count in queue.counts().items()},
        "oldest seconds": round(max((now - job.created for job in open_jobs), default=0.0), 1),
        "late images": queue.late(),
        "jobs": [_job(job, now) for job in [*open_jobs, *ended][:MOST_JOBS]],
    }


def lane_status(lanes: Sequence[Lane]) -> list[dict[str, Any]]:
    """What each worker is at, and for how long nothing was heard of it."""
    return [_lane(lane) for lane in lanes]


def _job(job: Job, now: float) -> dict[str, Any]:
    return {
        "job": job.id,
        "series": job.folder.name.partition("-")[2],
        "state": str(job.state),
        "rule": job.rule,
        "priority": job.priority,
        "age seconds": round(now - job.created, 1),
        "in state seconds": round(now - job.changed, 1),
        "attempts": job.attempts,
        "waits seconds": round(max(0.0, job.not_before - now), 1),
        "reason": job.reason,
    }


def _lane(lane: Lane) -> dict[str, Any]:
    job, worker = lane.job, lane.worker
    return {
        "worker": worker.name,
        "device": worker.device,
        "process": worker.pid,
        "starts": worker.starts,
        "alive": lane.alive,
        "job": None if job is None else job.id,
        "doing": worker.doing if job is not None else "",
        "silent seconds": 0.0 if job is None else round(time.monotonic() - worker.last_beat, 1),
    }
