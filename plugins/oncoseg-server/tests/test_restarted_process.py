"""A server that is killed and started again on the same port: the image is sent again, and the steps are taken again.

The steps are drawn masks: that prompts are answered alike is proved where a series is served.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from oncoseg_client import Server, ServerError, Voxels

CODE = "from oncoseg_core.cli.app import main; main()"


@contextmanager
def serving(settings, environment):
    """The command; it is killed at the end."""
    command = [sys.executable, "-c", CODE, "serve", str(settings)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    with process:
        try:
            while "serving at" not in (line := process.stderr.readline()):
                assert line, "it did not start"
            yield line.split("serving at ")[1].split()[0]
        finally:
            process.kill()


def test_the_image_and_the_steps_are_sent_again(tmp_path):
    settings = tmp_path / "server.yaml"
    values = {
        "port": 0,
        "preload": False,
        "encode_ahead": {"enabled": False},
        "models": {"m": {"model": "litemedsam", "model_settings": {"engine": "torch"}}},
    }
    settings.write_text(yaml.safe_dump(values))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ONCOSEG_CACHE": str(tmp_path / "cache")}
    voxels = np.random.default_rng(0).integers(-120, 60, (4, 96, 96)).astype(np.int16)
    with serving(settings, environment) as url:
        server = Server(url)
        session = server.open_volume(Voxels(voxels, np.diag([1.0, 1, 3, 1]), "ct"))
        drawn = np.zeros((96, 96), dtype=bool)
        drawn[4:9, 5:8] = True
        session.edit("a", {0: drawn, 3: drawn})
        session.edit("b", {1: drawn, 2: ~drawn})
        before = {name: session.mask(name) for name in session.structures}
    with pytest.raises(ServerError, match="cannot be reached"):
        session.undo()
    settings.write_text(yaml.safe_dump({**values, "port": int(url.rpartition(":")[2])}))
    with serving(settings, environment) as again:
        assert again == url
        session.edit("c", {2: drawn})
        assert len(session.steps) == 3
        for name, mask in before.items():
            np.testing.assert_array_equal(session.mask(name), mask)
        assert session.mask("c")[2].any()
        session.undo()
        assert set(session.structures) == {"a", "b"}
        server.close()
