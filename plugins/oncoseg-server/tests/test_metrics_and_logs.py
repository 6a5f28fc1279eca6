"""What is measured and logged: routes and stages, never what could lead to a patient."""

import json
import logging
import re

from prometheus_client.parser import text_string_to_metric_families


def samples(client):
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_requests_stages_and_what_is_held(open_session, client):
    session = open_session()
    session.box()
    session.post("/undo")
    client.get("/dicom-web/scans/studies")
    client.request("BREW", "/x")
    found = samples(client)
    steps = (("method", "POST"), ("route", "/api/v1/sessions/{session}/steps"), ("status", "200"))
    assert found["oncoseg_request_seconds_count", steps] == 1
    for stage in ("queue", "encode", "decode", "measure", "pack", "total"):
        assert found["oncoseg_stage_seconds_count", (("stage", stage),)] >= 1
    assert found["oncoseg_sessions", ()] == 1
    assert found["oncoseg_embedding_bytes", ()] > 0
    assert found["oncoseg_embedding_misses", ()] >= 1
    assert found["oncoseg_series_bytes", ()] > 0
    assert ("oncoseg_device_waiting", ()) in found
    assert ("oncoseg_encoded_ahead_total", ()) in found
    session.delete()
    assert samples(client)["oncoseg_sessions", ()] == 0


def test_labels_are_bounded(client):
    for number in range(50):
        client.get(f"/api/v1/nothing-{number}")
        client.request(f"M{number}", "/api/v1/server")
    routes = {dict(labels).get("route") for _, labels in samples(client)}
    methods = {dict(labels).get("method") for _, labels in samples(client)}
    assert len(routes) < 6
    assert methods <= {None, "GET", "other"}


def test_neither_logs_nor_metrics_lead_to_a_patient(open_session, client, scan, caplog):
    with caplog.at_level(logging.DEBUG):
        session = open_session()
        session.box("Miller Anna")
        session.post("/steps", {"step": "remove", "structure": "Nobody^Known"})
        client.get(f"/api/v1/sources/scans/series?study={scan.study}")
        client.get(f"/dicom-web/scans/studies/{scan.study}/series/{scan.series}/metadata")
        client.post("/api/v1/sessions", json={**scan.open_request(), "series_uid": "1.2.3.4.5"})
        client.get(f"/{scan.study}")
        session.delete()
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("oncoseg"))
    assert "POST /api/v1/sessions/{session}/steps 200" in ours
    metrics = client.get("/metrics").text
    for secret in (
        scan.study,
        scan.series,
        "1.2.3.4.5",
        "Miller",
        "Nobody",
        "Phantom",
        session.reply["session"],
        session.reply["lease"],
    ):
        assert secret not in ours, secret
        assert secret not in metrics, secret


def test_one_session_has_one_name_in_the_log(open_session, caplog):
    with caplog.at_level(logging.INFO):
        first, second = open_session(), open_session()
        for session in (first, second, first):
            session.post("/heartbeat")
    lines = [record.getMessage() for record in caplog.records if "heartbeat" in record.getMessage()]
    names = [re.search(r"session ([0-9a-f]+)$", line)[1] for line in lines if line.startswith("POST")]
    assert names[0] == names[2] != names[1]


def test_every_request_has_an_example_that_its_schema_takes(client):
    import pydantic

    from oncoseg_server.wire import OpenRequest, SaveRequest, Step, View

    description = client.get("/api/v1/openapi.json").json()
    models = {"OpenRequest": OpenRequest, "Step": Step, "View": View, "SaveRequest": SaveRequest}
    found = 0
    for path, operations in description["paths"].items():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            assert content.get("examples"), path
            name = content["schema"].get("$ref", "/Step").rpartition("/")[2]
            for example in content["examples"].values():
                pydantic.TypeAdapter(models.get(name, Step)).validate_python(example["value"])
                found += 1
    assert found >= 8
    assert "Failure" in json.dumps(description)
