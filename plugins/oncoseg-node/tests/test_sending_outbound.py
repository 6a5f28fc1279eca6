"""Nothing leaves this machine but to the destinations: in a network of its own where the system allows one.

There a process has loopback alone and no route, so that whatever else it tried to reach would fail; and every address
that it connects to, or asks a name server for, is written down by a hook of the interpreter.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from pathlib import Path

asked = []
names = {"socket.connect": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.sendto": 1}
sys.addaudithook(lambda event, arguments: event in names and asked.append([event, repr(arguments[names[event]])]))

from false_dicom_node import false_node
from false_origin import false_origin
from node_job import node_job
from oncoseg_node.config.settings import DicomDestination, DicomwebDestination, FolderDestination
from oncoseg_node.sending import confirm, send
from oncoseg_node.writing import write

folder = Path(sys.argv[1])
objects = write(*node_job(folder).arguments)
before, asked[:] = list(asked), []
(folder / "share").mkdir()
with false_node() as node, false_origin() as origin:
    destinations = {
        "node": DicomDestination(kind="dicom", host="127.0.0.1", port=node.port, ae_title="ARCHIVE"),
        "web": DicomwebDestination(kind="dicomweb", url=origin.url, silent_seconds=1),
        "share": FolderDestination(kind="folder", path=folder / "share"),
    }
    done = {name: [one.status for one in send(objects, name, where)] for name, where in destinations.items()}
    done |= {"proof": [one.status for one in confirm(objects, "node", destinations["node"])]}
    ports = [node.port, origin.server.server_port]
print(json.dumps({"before": before, "asked": asked, "ports": ports, "done": done}))
"""


def private_network():
    """The command that starts a process without any network but loopback; empty where the system refuses."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if unshare is None or ip is None:
        return []
    command = [unshare, "--user", "--map-root-user", "--net", "sh", "-c", f'{ip} link set lo up && exec "$@"', "sh"]
    return command if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0 else []


def test_only_destinations_are_connected_to(tmp_path):
    shared = str(Path(__file__).parents[3] / "tests" / "shared")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([shared, *sys.path]),
        "HTTP_PROXY": "http://192.0.2.1:3128",  # a setting of the environment is no destination
        "ALL_PROXY": "http://192.0.2.1:3128",
    }
    done = subprocess.run(
        [*private_network(), sys.executable, "-c", PROGRAM, tmp_path], env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["before"] == []
    assert found["done"] == {"node": ["stored"], "web": ["failed"], "share": ["stored"], "proof": ["confirmed"]}
    assert found["asked"]
    for event, address in found["asked"]:
        assert "127.0.0.1" in address or address == "None", (event, address)  # None: any address of this machine
        if event == "socket.connect":
            assert any(str(port) in address for port in found["ports"]), address
