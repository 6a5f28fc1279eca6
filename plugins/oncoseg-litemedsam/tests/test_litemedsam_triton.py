"""The engine ``triton`` against a stand-in: a server that speaks the protocol and runs the ONNX with onnxruntime."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
import pytest
import torch

from oncoseg_core import ConfigError, ModelSpec, QualityError, UsageError, load_plugins
from oncoseg_litemedsam.engines import engines
from oncoseg_litemedsam.engines.parts import phantom, relative
from oncoseg_litemedsam.engines.triton import HEADER, EngineError, Triton, require_url


@pytest.fixture(scope="module")
def plain():
    return load_plugins().build(ModelSpec, "litemedsam")


@pytest.fixture(scope="module")
def part(plain):
    return engines.onnx_part(engines.ENCODER, plain)


@pytest.fixture(scope="module")
def server(part):
    """What tests change of it: ``weights`` in the configuration, ``answer`` (a function of status, headers, body)."""
    session = onnxruntime.InferenceSession(part.content, providers=["CPUExecutionProvider"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.server.requests.append(self.path)
            config = {"parameters": {"weights_sha256": {"string_value": self.server.weights}}}
            found = {"/v2": {"version": "2.99"}, "/v2/models/m_encoder/config": config}.get(self.path)
            self.reply(404 if found is None else 200, {}, json.dumps(found or {"error": "unknown model"}).encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            size = int(self.headers[HEADER])
            head = json.loads(body[:size])
            (tensor,) = head["inputs"]
            assert tensor["parameters"]["binary_data_size"] == len(body) - size
            pixels = np.frombuffer(body[size:], "<f4").reshape(tensor["shape"])
            self.server.requests.append((self.path, tensor["name"], [o["name"] for o in head["outputs"]]))
            (found,) = session.run(None, {tensor["name"]: pixels})
            raw = found.astype("<f4").tobytes()
            output = {
                "name": "embedding", "datatype": "FP32", "shape": list(found.shape),
                "parameters": {"binary_data_size": len(raw)},
            }  # fmt: skip
            head = json.dumps({"model_name": "m_encoder", "outputs": [output]}).encode()
            self.reply(*self.server.answer(200, {HEADER: str(len(head))}, head + raw))

        def reply(self, status, headers, body):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def fresh(server, part):
    server.requests, server.weights, server.answer = [], part.weights_sha256, lambda *whole: whole


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def build(server):
    settings = {"engine": "triton", "triton_url": address(server), "triton_model": "m", "triton_seconds": 60}
    return load_plugins().build(ModelSpec, "litemedsam", settings)


def client(server, part, seconds=60.0):
    return Triton(address(server), "m_encoder", engines.ENCODER, part.weights_sha256, seconds)


def test_the_server_encodes_and_is_compared_with_torch_first(server, plain, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing of the environment sends it elsewhere
    model = build(server)
    with torch.inference_mode():
        found = model.encode_image(phantom())
        expected = plain.encode_image(phantom())
    assert 0 < relative(found, expected) < 1e-4
    assert model.computed_by == "triton 2.99 fp32"
    asked = ("/v2/models/m_encoder/infer", "pixels", ["embedding"])
    assert server.requests == ["/v2", "/v2/models/m_encoder/config", asked, asked]


def test_a_server_with_other_weights_is_not_asked(server):
    server.weights = "0" * 64
    with (
        torch.inference_mode(),
        pytest.raises(EngineError, match=f"has the weights {'0' * 64}, this model has [0-9a-f]{{64}}"),
    ):
        build(server).encode_image(phantom())
    assert len(server.requests) == 2


def test_a_server_that_claims_the_weights_and_answers_something_else(server):
    server.answer = lambda status, headers, body: (status, headers, body[:-4096] + bytes(4096))
    with torch.inference_mode(), pytest.raises(QualityError, match="triton 2.99 fp32: .* does not give torch's masks"):
        build(server).encode_image(phantom())


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda *_: (500, {}, b'{"error": "out of memory"}'), 'answered 500 {"error": "out of memory"}'),
        (lambda *_: (302, {"Location": "http://127.0.0.1:9/"}, b""), "answered 302"),
        (lambda *_: (200, {}, b"{}"), "its answer is not one of the protocol v2"),
        (lambda *_: (200, {HEADER: "x"}, b"{}"), "its answer is not one of the protocol v2"),
        (lambda status, headers, body: (status, headers, body[:-4]), "its answer is not one of the protocol v2"),
        (lambda status, headers, body: (status, headers, body.replace(b"FP32", b"FP16")), "embedding is of type FP16"),
        (lambda *_: (200, {}, bytes(65 * 1024 * 1024)), "its answer is larger than"),
    ],
)  # fmt: skip
def test_answers_that_are_none(answer, what, server, part):
    runtime = client(server, part)
    server.answer = answer
    with pytest.raises(EngineError, match=what) as error:
        runtime(phantom())
    assert "\n" not in str(error.value)
    assert f"model m_encoder at {address(server)}" in str(error.value)


def test_a_server_that_is_not_there_or_lacks_the_model_or_is_too_slow(server, part):
    with pytest.raises(EngineError, match=r"no answer \(ConnectError.*is the server running, and `triton_url` right"):
        Triton("http://127.0.0.1:9", "m_encoder", engines.ENCODER, part.weights_sha256, 5)
    with pytest.raises(EngineError, match="model other at .*: answered 404 .*unknown model"):
        Triton(address(server), "other", engines.ENCODER, part.weights_sha256, 5)
    runtime = client(server, part, seconds=0.2)
    waiting = threading.Event()
    server.answer = lambda *whole: (waiting.wait(5), whole)[1]
    with pytest.raises(EngineError, match="no answer .ReadTimeout"):
        runtime(phantom())
    waiting.set()


@pytest.mark.parametrize("url", [None, "", "127.0.0.1:8000", "file:///etc/passwd"])
def test_an_address_that_is_none(url):
    with pytest.raises(UsageError, match="`engine` triton needs `triton_url`"):
        require_url(url)


def test_settings():
    registry = load_plugins()
    with pytest.raises(UsageError, match="needs `triton_url`, such as http://127.0.0.1:8000, found None"):
        registry.build(ModelSpec, "litemedsam", {"engine": "triton"})
    with pytest.raises(ConfigError, match="triton_model"):
        registry.build(ModelSpec, "litemedsam", {"triton_model": "../other"})
