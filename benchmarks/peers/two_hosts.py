"""A run on two machines, one of which is killed or cut off: does anything hang, and is anything lost?

The machines are two network namespaces with a cable between them, each with its own ``torchrun``; the folder of the run
is shared, as on a cluster. Needs root, Linux and ``ip`` (iproute2).

    sudo python benchmarks/peers/two_hosts.py

"killed": everything on the second machine is killed with ``kill -9``, then it is started again.
"cut off": the cable is pulled for good; both sides must end by themselves. Then it is mended, and both start again.
"alone": the cable is pulled of a run that may shrink (``--nnodes=1:2``); the first machine goes on without the second.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_run import write_tiny_run

from oncoseg_benchmarks.record import record, require
from oncoseg_trainer.checkpoints.checkpoint import read_checkpoint
from oncoseg_trainer.reporting.jsonl import METRICS_FILE, read_metrics

PREFIX = "oncoseg"
ADDRESSES = {"a": "10.77.31.1", "b": "10.77.31.2"}
PORT = 29431
JOIN_TIMEOUT = 30
"""torchrun's rendezvous gives up after so many seconds when a machine does not come (by default 600). It must last
longer than a machine that is cut off counts as there (three keep-alives of 5 s) and the last call (5 s) together."""

TCP_RETRIES = 6
"""``net.ipv4.tcp_retries2``: the system gives an unanswered line up after about 25 s; with the usual 15 after about 15
minutes. On the side that is cut off from torchrun's rendezvous, torchrun itself waits for that. Training does not."""

MOST_SECONDS = 400.0
"""For anything that is waited for: longer is a hang."""

STEPS = {"training.epochs": 30, "training.checkpoint_every": 5}
"""270 steps: long enough to be caught in the middle."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=["killed", "cut off", "alone"])
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # tidies up
    if reason := why_not():
        sys.exit(reason)
    found: dict[str, Any] = {"rendezvous_join_timeout_seconds": JOIN_TIMEOUT, "tcp_retries2": TCP_RETRIES}
    with tempfile.TemporaryDirectory() as folder, network():
        lab = Lab(Path(folder))
        whole = lab.undisturbed()
        for name in options.scenarios:
            found[name] = {"killed": killed, "cut off": cut_off, "alone": alone}[name](lab, whole)
            print(name, found[name], flush=True)
    if not options.dry:
        print(record("two_hosts", f"sudo python benchmarks/peers/{Path(__file__).name}", found))


def why_not() -> str | None:
    """What is missing here to make network namespaces; None when nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if shutil.which("ip") is None:
        return "ip is missing: install iproute2"
    tried = subprocess.run(["ip", "netns", "add", f"{PREFIX}-try"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", f"{PREFIX}-try"], capture_output=True, check=False)
    return tried.stderr.strip() or None


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Two machines and a cable."""
    with contextlib.suppress(subprocess.CalledProcessError):
        _unplug()
    for name in ADDRESSES:
        ip("netns", "add", f"{PREFIX}-{name}")
    ip("link", "add", "eth-a", "netns", f"{PREFIX}-a", "type", "veth", "peer", "name", "eth-b", "netns", f"{PREFIX}-b")
    for name, address in ADDRESSES.items():
        ip("-n", f"{PREFIX}-{name}", "address", "add", f"{address}/24", "dev", f"eth-{name}")
        sysctl = ["sysctl", "-q", f"net.ipv4.tcp_retries2={TCP_RETRIES}"]
        subprocess.run(["ip", "netns", "exec", f"{PREFIX}-{name}", *sysctl], check=True)
        for device in (f"eth-{name}", "lo"):
            ip("-n", f"{PREFIX}-{name}", "link", "set", device, "up")
    try:
        yield
    finally:
        _unplug()


def cable(state: str) -> None:
    """Pull the cable (``down``) or put it back (``up``)."""
    ip("-n", f"{PREFIX}-b", "link", "set", "eth-b", state)


def ip(*arguments: str) -> str:
    """Configure the network."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _unplug() -> None:
    for name in ADDRESSES:
        kill_all(name)
        ip("netns", "delete", f"{PREFIX}-{name}")


def kill_all(name: str) -> None:
    """Kill everything on one machine, as a power cut does."""
    for process in ip("netns", "pids", f"{PREFIX}-{name}").split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


@dataclass
class Lab:
    """Where runs are made; ``launched`` are the launchers of the present one, by machine.

    ``short`` is for tests: fewer steps, shorter waits, and nobody waits for the machine that is left behind.
    """

    folder: Path
    short: bool = False
    launched: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = {**STEPS, "training.epochs": 10} if self.short else STEPS
        self.site, self.config = write_tiny_run(self.folder, steps, short_waits=self.short)

    def undisturbed(self) -> Path:
        """A whole run on both machines."""
        output = self.folder / "whole"
        self.launch(output, "a", "b")
        require(self.wait(output) == {"a": 0, "b": 0}, self.logs(output))
        return output

    def launch(self, output: Path, *names: str, nodes: str = "2", more: tuple[str, ...] = ()) -> None:
        """Start ``torchrun`` on machines."""
        for name in names:
            conf = f"is_host={int(name == 'a')},join_timeout={JOIN_TIMEOUT},last_call_timeout=5"
            command = [
                "ip", "netns", "exec", f"{PREFIX}-{name}", sys.executable, "-m", "torch.distributed.run",
                f"--nnodes={nodes}", "--nproc-per-node=1", "--max-restarts=3", "--monitor-interval=0.2",
                "--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES['a']}:{PORT}", "--rdzv-id=tiny",
                f"--rdzv-conf={conf}", f"--local-addr={ADDRESSES[name]}",
                "-m", "oncoseg_trainer", str(self.config), "--set", f"output={output}", *more,
            ]  # fmt: skip
            environment = {
                **os.environ, "PYTHONPATH": str(self.site), "GLOO_SOCKET_IFNAME": f"eth-{name}", "OMP_NUM_THREADS": "1",
                # Else a machine that comes anew waits for an address which those that stayed do not tell again.
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            }  # fmt: skip
            with Path(f"{output}-{name}.log").open("ab") as log:
                self.launched[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait(self, output: Path, *names: str) -> dict[str, int]:
        """Wait until the launchers (of these machines, or all) have ended; their exit codes.

        Raises:
            AssertionError: one hangs.
        """
        launched = {name: self.launched[name] for name in names or self.launched}
        self.until(output, lambda: all(child.poll() is not None for child in launched.values()))
        return {name: child.returncode for name, child in launched.items()}

    def until(self, output: Path, holds: Callable[[], bool]) -> float:
        """Wait for something; the seconds it took.

        Raises:
            AssertionError: it does not come.
        """
        started = time.perf_counter()
        while not holds():
            all_ended = all(child.poll() is not None for child in self.launched.values())
            in_time = time.perf_counter() - started < MOST_SECONDS
            require(holds() or (in_time and not all_ended), self.logs(output))
            time.sleep(0.02)
        return time.perf_counter() - started

    def until_step(self, output: Path, step: int) -> None:
        """Wait until a run has come so far."""
        metrics = output / METRICS_FILE
        self.until(output, lambda: metrics.exists() and len(read_metrics(metrics)) > step)

    def logs(self, output: Path) -> str:
        """What was written on both machines."""
        logs = [Path(f"{output}-{name}.log") for name in ADDRESSES]
        return "\n".join(f"== {log.name}\n{log.read_text()}" for log in logs if log.exists())


def killed(lab: Lab, whole: Path) -> dict[str, Any]:
    """The second machine loses power, and comes back."""
    output = lab.folder / "killed"
    lab.launch(output, "a", "b")
    lab.until_step(output, 20)
    kill_all("b")
    noticed = lab.until(output, lambda: "was lost" in lab.logs(output))
    lab.launched["b"].wait()
    lab.launch(output, "b")
    codes = lab.wait(output)
    require(codes == {"a": 0, "b": 0}, lab.logs(output))
    return {
        "seconds_until_the_first_said_who_was_lost": round(noticed, 2),
        "it_said": reported_lines(lab, output),
        "resumed_after_step": resumed_after(lab, output),
        "weights_as_undisturbed": fingerprint(output) == fingerprint(whole),
    }


def cut_off(lab: Lab, whole: Path) -> dict[str, Any]:
    """The cable breaks; both sides end; then it is mended and both are started again."""
    output = lab.folder / "cut-off"
    lab.launch(output, "a", "b")
    lab.until_step(output, 20)
    cable("down")
    noticed = lab.until(output, lambda: "was lost" in lab.logs(output))
    started = time.perf_counter()
    codes = lab.wait(output)
    ended = noticed + time.perf_counter() - started
    require(0 not in codes.values(), lab.logs(output))
    it_said = reported_lines(lab, output)
    cable("up")
    lab.launch(output, "a", "b", more=("--resume",))
    require(lab.wait(output) == {"a": 0, "b": 0}, lab.logs(output))
    return {
        "seconds_until_one_said_who_was_lost": round(noticed, 2),
        "seconds_until_both_launchers_had_ended": round(ended, 2),
        "exit_codes": codes,
        "it_said": it_said,
        "resumed_after_step": resumed_after(lab, output),
        "weights_as_undisturbed": fingerprint(output) == fingerprint(whole),
    }


def alone(lab: Lab, whole: Path | None) -> dict[str, Any]:
    """The cable breaks; the first machine goes on by itself, with twice the micro-steps.

    Without an undisturbed run to compare with, nothing is compared.
    """
    output = lab.folder / "alone"
    lab.launch(output, "a", "b", nodes="1:2")
    lab.until_step(output, 20)
    cable("down")
    noticed = lab.until(output, lambda: "was lost" in lab.logs(output))
    resumed = noticed + lab.until(output, lambda: "Resuming after" in lab.logs(output))
    codes = lab.wait(output, *("a" if lab.short else "ab"))  # the second waits for the system to give its line up
    cable("up")
    require(codes["a"] == 0, lab.logs(output))
    return {
        "seconds_until_one_said_who_was_lost": round(noticed, 2),
        "seconds_until_the_first_went_on_alone": round(resumed, 2),
        "exit_codes": codes,
        "it_said": reported_lines(lab, output),
        "resumed_after_step": resumed_after(lab, output),
        **({} if whole is None else {"most_that_a_loss_differs_from_undisturbed": difference(output, whole)}),
    }


def difference(output: Path, whole: Path) -> float:
    """The most by which the losses of two runs differ in any step."""
    losses = [
        [row["loss"] for row in read_metrics(each / METRICS_FILE) if row["event"] == "train"]
        for each in (output, whole)
    ]
    return max(abs(one - two) for one, two in zip(*losses, strict=True))


def reported_lines(lab: Lab, output: Path) -> list[str]:
    """The errors on both machines, and what a resumed run says of its processes."""
    lines = lab.logs(output).splitlines()
    return sorted({line for line in lines if line.startswith(("error:", "Begun with"))})


def resumed_after(lab: Lab, output: Path) -> list[int]:
    """The steps from which the run went on."""
    return [int(line.split()[3]) for line in lab.logs(output).splitlines() if line.startswith("Resuming after step")]


def fingerprint(output: Path) -> str:
    """Of the weights at the end of a run."""
    (last,) = (output / "checkpoints").glob("step-*.pt")
    found = hashlib.sha256()
    for name, tensor in sorted(read_checkpoint(last).trainable.items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
