"""What the UIDs and dates of a job's objects follow from: begun again after a crash, the same bytes are written."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from oncoseg_core import ConfigError
from oncoseg_core.system import json_text
from oncoseg_node.config.salt import read_salt
from oncoseg_node.config.settings import NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import Made


def rule_of(job: Job, settings: NodeSettings) -> RuleSettings:
    """The rule that a job matched.

    Raises:
        ConfigError: the settings have it no more.
    """
    for rule in settings.rules:
        if rule.name == job.rule:
            return rule
    raise ConfigError(
        f"job {job.id} matched the rule {job.rule!r}, which the settings do not have; put it back, or retry the job"
    )


def uid_seed(job: Job, settings: NodeSettings, made: Made) -> str:
    """A text that is the same for the same series, rule, node, settings of its models, and weights.

    The exporters derive UIDs from it and from all that an object says. The node's salt is in it, so that nobody else
    can derive them, nor the series from them.

    Raises:
        ConfigError: as :func:`rule_of`.
        DataError, StorageError: as :func:`read_salt`.
    """
    rule = rule_of(job, settings)
    models = {name: settings.models[name].model_dump(mode="json") for name in rule.models if name in settings.models}
    parts = [
        read_salt(settings.data).hex(),
        job.study_uid,
        job.series_uid,
        json_text(rule.model_dump(mode="json")),
        json_text(models),
        json_text([(one.key, one.component, one.version, one.weights_sha256) for one in made.models]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def moment_of(job: Job) -> datetime:
    """The date and time that the objects bear: when the series began to arrive, in the machine's own time."""
    return datetime.fromtimestamp(int(job.created), UTC).astimezone()
