"""A thread of this process in the place of a DICOMweb archive; it answers with whatever a test gives it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/dicom+json"


class FalseOrigin:
    """Answers by path; ``requests`` are (method, path, headers) of what it was sent."""

    def __init__(self):
        self.answers, self.requests = {}, []

    def respond(self, path, content=b"", status=200, media=JSON, headers=(), then=None):
        self.answers[path] = (status, media, content, dict(headers), then)


@contextmanager
def false_origin():
    """One on loopback, with its ``url`` and ``server``."""
    origin = FalseOrigin()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            origin.requests.append((self.command, self.path, dict(self.headers)))
            found = origin.answers.get(self.path.partition("?")[0], (404, JSON, b"", {}, None))
            status, media, content, headers, then = found
            self.send_response(status)
            self.send_header("Content-Type", media)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            if then is not None:
                then(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    origin.server = server
    origin.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    try:
        yield origin
    finally:
        server.shutdown()
        server.server_close()
