"""A stand-in for the hub: the few endpoints that the library uses for models, over plain HTTP, with faults on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER = "hf_writersecret", "hf_readersecret"


class Repository:
    """Commits, newest last; each is the whole of its files. Oids follow from the content."""

    def __init__(self, private=False, gated=False):
        self.private, self.gated = private, gated
        self.commits = {}
        self.commit({})

    def commit(self, files):
        oid = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[oid] = dict(files)
        return oid

    @property
    def head(self):
        return list(self.commits)[-1]


class Hub(ThreadingHTTPServer):
    """``faults`` change what is answered; ``seen`` are the requests, ``sent`` what was uploaded apart from commits."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = {}
        self.faults = {}
        self.seen = []
        self.blobs = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name, files, **traits):
        repository = self.repositories.setdefault(name, Repository(**traits))
        return repository.commit({**repository.commits[repository.head], **files})

    def files(self, name):
        repository = self.repositories[name]
        return repository.commits[repository.head]

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body=b"", status=200, headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, code="", message=""):
        self.answer({"error": message or code}, status, {"X-Error-Code": code, "X-Error-Message": message or code})

    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def read(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def repository(self, name):
        """The repository, or None after answering what the hub answers."""
        found = self.server.repositories.get(name)
        if found is None or (found.private and self.token() != WRITER):
            self.refuse(401 if not self.token() else 404, "RepoNotFound", "Repository not found")
            return None
        return found

    def dispatch(self):
        path = unquote(urlsplit(self.path).path)
        self.server.seen.append((self.command, path))
        for pattern, fault in self.server.faults.items():
            if re.search(pattern, f"{self.command} {path}") and isinstance(fault, tuple):
                self.read()
                self.refuse(*fault)
                return
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match:
                method(self, *match.groups())
                return
        self.read()
        self.refuse(404, "", f"no such endpoint: {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = dispatch

    def info(self, name, revision):
        repository = self.repository(name)
        if repository is None:
            return
        oid = repository.head if revision in (None, "main") else revision
        if oid not in repository.commits:
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        sizes = {path: len(content) for path, content in repository.commits[oid].items()}
        sizes |= self.server.faults.get("sizes", {})
        with_sizes = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = [
            {"rfilename": p, **({"size": n, "blobId": "0" * 40} if with_sizes else {})} for p, n in sizes.items()
        ]
        sha = self.server.faults.get("sha", oid)
        self.answer(
            {"id": name, "modelId": name, "sha": sha, "private": repository.private, "gated": repository.gated,
             "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        )  # fmt: skip

    def resolve(self, name, revision, path):
        repository = self.repository(name)
        if repository is None:
            return
        if repository.gated and self.token() != WRITER:
            self.refuse(401 if not self.token() else 403, "GatedRepo", "Access to model is restricted")
            return
        files = repository.commits.get(repository.head if revision == "main" else revision, {})
        if path not in files or path in self.server.faults.get("lost", ()):
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        content = self.server.faults.get("served", {}).get(path, files[path])
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": revision, "Accept-Ranges": "bytes",
        }  # fmt: skip
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        cut = self.server.faults.get("cut", {})
        if self.command == "GET" and cut.get(path, 0) > 0:
            cut[path] -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(content[start:], 206 if start else 200, headers)

    def create(self):
        wanted = json.loads(self.read())
        if self.token() != WRITER:
            self.refuse(401 if self.token() != READER else 403, "", f"token {self.token()} may not write")
            return
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        if name in self.server.repositories:
            self.answer({"url": f"{self.server.url}/{name}", "name": name}, 409)
            return
        self.server.repositories[name] = Repository(
            private=wanted.get("private") is True or wanted.get("visibility") == "private"
        )
        self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def validate(self):
        self.read()
        self.answer({"warnings": [], "errors": []})

    def preupload(self, name, revision):
        files = json.loads(self.read())["files"]
        ignored = self.server.faults.get("ignored", ())
        self.answer(
            {"files": [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": f["path"] in ignored} for f in files
            ]}
        )  # fmt: skip

    def batch(self, name):
        objects = json.loads(self.read())["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.url}/blob/{each['oid']}"}}
        self.answer({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, oid):
        content = self.read()
        if hashlib.sha256(content).hexdigest() == oid:
            self.server.blobs[oid] = content
        self.answer()

    def commit(self, name, revision):
        repository = self.server.repositories[name]
        files = dict(repository.commits[repository.head])
        for line in self.read().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files)
        self.answer(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}", "hookOutput": ""}
        )


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    (rf"GET /api/models/{NAME}(?:/revision/(.+))?", Handler.info),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"POST /api/models/{NAME}/preupload/(.+)", Handler.preupload),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /blob/(\w+)", Handler.put),
    (rf"POST /api/models/{NAME}/commit/(.+)", Handler.commit),
]
