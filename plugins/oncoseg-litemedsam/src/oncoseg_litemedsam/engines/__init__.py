"""LiteMedSAM on other engines than torch, where nothing is trained: OpenVINO, onnxruntime, a Triton server."""
