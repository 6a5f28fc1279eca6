"""A worker that does as the job's rule says: run as a program, without the node's libraries."""

import json
import os
import subprocess
import sys
import time

NEXT = {
    "received": "complete",
    "complete": "segmented",
    "segmented": "checked",
    "checked": "sent",
    "sent": "confirmed",
    "failed": "failed",
}


def say(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


first = json.loads(sys.stdin.readline())
if first["device"] == "broken":
    say(unusable={"kind": "installation", "message": "no such device", "permanent": True})
    sys.exit()
if first["device"] == "cuda":
    say(unusable={"kind": "installation", "message": f"GPU {os.environ['CUDA_VISIBLE_DEVICES']}", "permanent": True})
    sys.exit()
say(beat="starts")
say(ready=os.getpid())
for line in sys.stdin:
    job = json.loads(line)["job"]
    how = job["rule"]
    say(beat=f"at {how}")
    if how == "dies":
        os.kill(os.getpid(), 9)
    if how == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        say(beat=f"child {child.pid}")
        time.sleep(60)
    if how == "cannot":
        say(fault={"kind": "data", "message": "it cannot", "permanent": True})
    elif how == "not now":
        say(fault={"kind": "not sent", "message": "not now", "permanent": False})
    else:
        say(done={"state": NEXT[job["state"]], "rule": "lungs", "facts": {"images": 3}, "seconds": {"all": 0.5}})
