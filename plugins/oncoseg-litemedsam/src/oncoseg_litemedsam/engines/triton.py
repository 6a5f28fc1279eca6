"""A part that a Triton server runs, asked over KServe's protocol v2 with binary tensors, at one configured address."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from oncoseg_core import MissingDependencyError, OncoSegError, UsageError
from oncoseg_core.system import json_text
from oncoseg_litemedsam.engines.parts import Part
from oncoseg_litemedsam.engines.runtimes import Runtime

WEIGHTS: Final = "weights_sha256"
"""The parameter of a model's configuration in which ``oncoseg export-model`` notes what weights are in it."""

HEADER: Final = "Inference-Header-Content-Length"

MOST_BYTES = 64 * 1024 * 1024
"""Of an answer; an embedding has 4 MB."""


class EngineError(OncoSegError):
    """An engine that was chosen by name does not answer, or answers with something else."""


class Triton(Runtime):
    """One model of a Triton server. Nothing is sent but what the part takes, and to no other address than the url's.

    Args:
        url: the server's, such as ``http://127.0.0.1:8000``.
        model: its name there, such as ``litemedsam_encoder``.
        part: which it is.
        weights: the SHA-256 of the weights that it must have.
        seconds: to wait for an answer.

    Raises:
        EngineError: the server does not answer, or has no such model, or one with other weights.
        MissingDependencyError: ``httpx`` is not installed.
    """

    def __init__(self, url: str, model: str, part: Part, weights: str, seconds: float) -> None:
        super().__init__()
        try:
            import httpx
        except ImportError as error:
            raise MissingDependencyError(
                "`engine` triton needs httpx: pip install 'oncoseg-litemedsam[triton]', or choose another engine"
            ) from error
        self._failure = httpx.HTTPError
        # No proxy, credentials or certificates from the environment, and no redirection: to that address only.
        timeout = httpx.Timeout(seconds, connect=min(seconds, 5.0))
        self._client = httpx.Client(base_url=url, timeout=timeout, trust_env=False, follow_redirects=False)
        self._model, self._part, self._where = model, part, f"`engine` triton, model {model} at {url}"
        server = self._object(self._get("/v2"))
        found = self._object(self._get(f"/v2/models/{model}/config")).get("parameters", {})
        there = found.get(WEIGHTS, {}).get("string_value") if isinstance(found, dict) else None
        if there != weights:
            raise EngineError(
                f"{self._where}: has the weights {there or 'of an unknown model'}, this model has {weights}; export it "
                "anew with oncoseg export-model"
            )
        self.name = f"triton {server.get('version', 'of unknown version')} fp32"

    def run(self, inputs: list[Any]) -> list[Any]:
        """Send the inputs, and read the outputs after checking their names, types and sizes."""
        described = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": array.nbytes},
            }
            for name, array in zip(self._part.inputs, inputs, strict=True)
        ]
        wanted = [{"name": name, "parameters": {"binary_data": True}} for name in self._part.outputs]
        head = json_text({"inputs": described, "outputs": wanted}).encode()
        body = b"".join([head, *(np.ascontiguousarray(array, "<f4").tobytes() for array in inputs)])
        content, length = self._send(
            "POST",
            f"/v2/models/{self._model}/infer",
            body,
            {HEADER: str(len(head)), "Content-Type": "application/octet-stream"},
        )
        try:
            size = int(length or len(content))
            return self._outputs(json.loads(content[:size]), content[size:])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{self._where}: its answer is not one of the protocol v2 ({error})") from error

    def _outputs(self, head: Any, content: bytes) -> list[Any]:
        start, found = 0, {}
        for output in head["outputs"]:
            size = int(output["parameters"]["binary_data_size"])
            if output["datatype"] != "FP32":
                raise ValueError(f"{output['name']} is of type {output['datatype']}")
            array = np.frombuffer(content[start : start + size], "<f4").reshape(output["shape"])
            found[output["name"]], start = array.astype(np.float32), start + size
        return [found[name] for name in self._part.outputs]

    def _get(self, path: str) -> bytes:
        return self._send("GET", path, None, {})[0]

    def _object(self, content: bytes) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except ValueError as error:
            raise EngineError(f"{self._where}: its answer is not JSON") from error
        return found if isinstance(found, dict) else {}

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[bytes, str | None]:
        """The answer's bytes and the length of its JSON, in bounded size."""
        try:
            with self._client.stream(method, path, content=body, headers=headers) as response:
                content = bytearray()
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > MOST_BYTES:
                        raise EngineError(f"{self._where}: its answer is larger than {MOST_BYTES} bytes")
        except self._failure as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise EngineError(
                f"{self._where}: no answer ({cause}); is the server running, and `triton_url` right?"
            ) from error
        if response.status_code != 200:
            said = " ".join(content[:200].decode("utf-8", "replace").split())
            raise EngineError(f"{self._where}: answered {response.status_code} {said}")
        return bytes(content), response.headers.get(HEADER)


def require_url(url: str | None) -> str:
    """Refuse an address that is none.

    Raises:
        UsageError: it is missing, or does not begin with ``http://`` or ``https://``.
    """
    if url is None or not url.startswith(("http://", "https://")):
        raise UsageError(f"`engine` triton needs `triton_url`, such as http://127.0.0.1:8000, found {url}")
    return url.rstrip("/")
