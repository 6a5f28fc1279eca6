"""Fresh virtual environments over the running one, so that nothing heavy is installed again."""

import json
import os
import site
import subprocess
import sys
import venv

import pytest

os.environ["WANDB_MODE"] = "offline"  # whoever runs the tests may have a key

QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class Environment:
    """Sees the libraries of the running environment, and has packages of its own."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (own,) = folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
        (own / "running_environment.pth").write_text("".join(lines))

    def run(self, *arguments, code=0, **options):
        done = subprocess.run(
            [self.python, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, **QUIET}, **options,
        )  # fmt: skip
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def oncoseg(self, *arguments, **options):
        return self.run("-c", "from oncoseg_core.cli.app import main; main()", *arguments, **options)

    def components(self, *distributions):
        """``(kind, name)`` of what distributions provide, as ``oncoseg plugins --json`` shows them."""
        rows = json.loads(self.oncoseg("plugins", "--json").stdout)["components"]
        return [(row["kind"], row["name"]) for row in rows if row["distribution"] in distributions]

    def install(self, *wheels):
        self._pip("install", "--quiet", "--no-deps", *wheels)

    def uninstall(self, *names):
        self._pip("uninstall", "--quiet", "--yes", *names)

    def _pip(self, *arguments):
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def environment_with(tmp_path_factory):
    """Builds a wheel of each folder with its own backend, as pip does, and installs them in an environment."""

    def install(*folders):
        wheels = tmp_path_factory.mktemp("wheels")
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels]
        done = subprocess.run(
            [*command, *folders], capture_output=True, text=True, check=False, env={**os.environ, **QUIET}
        )
        assert done.returncode == 0, done.stderr
        environment = Environment(tmp_path_factory.mktemp("environment"))
        environment.install(*wheels.glob("*.whl"))
        return environment

    return install
