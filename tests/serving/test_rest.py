"""REST answers as TF Serving documents it; half_plus_two is its own example."""

import gzip
import http.client
import json
import socket

import pytest
from half_plus_two import Running

PREDICT = "/v1/models/half:predict"


def test_the_documented_answers_of_half_plus_two(shared):
    # Fails where an output is named although it is the only one, or plus is not added.
    assert shared.predict([1.0, 2.0, 5.0]) == (200, {"predictions": [2.5, 3.0, 4.5]})
    columns = shared.ask("POST", PREDICT, {"inputs": [1.0, 2.0, 5.0]})
    assert columns == (200, {"outputs": [2.5, 3.0, 4.5]})
    named = shared.ask("POST", PREDICT, {"inputs": {"x": [1.0, 2.0, 5.0]}})
    assert named == columns
    rows = shared.ask("POST", PREDICT, {"instances": [{"x": 1.0}, {"x": 2}, {"x": 5.0}]})
    assert rows == (200, {"predictions": [2.5, 3.0, 4.5]})


def test_the_documented_answers_of_regress_and_classify(shared):
    examples = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": [2.0]}, {"x": 5.0}]}
    answer = shared.ask("POST", "/v1/models/half:regress", examples)
    assert answer == (200, {"results": [2.5, 3.0, 4.5]})
    examples = {"signature_name": "classify", "examples": [{"x": 0.5}]}
    answer = shared.ask("POST", "/v1/models/half:classify", examples)
    assert answer == (200, {"results": [[["up", 0.5], ["down", -0.5]]]})


def test_a_context_holds_for_every_example_that_does_not_say_otherwise(shared):
    examples = {"signature_name": "regress", "context": {"x": 1.0}, "examples": [{}, {"x": 5.0}]}
    answer = shared.ask("POST", "/v1/models/half:regress", examples)
    # Fails where the context stands behind the example and so wins.
    assert answer == (200, {"results": [2.5, 4.5]})


def test_several_inputs_and_outputs_in_both_forms_with_bytes(shared):
    rows = [{"a": [1, 2], "text": "é"}, {"a": [3.5, 0], "text": {"b64": "/w=="}}]
    body = json.dumps({"signature_name": "named", "instances": rows[:1]}).encode()
    assert shared.ask("POST", PREDICT, body) == (
        200,
        {"predictions": [{"sum": 3.0, "text": "é", "text_bytes": {"b64": "w6k="}}]},
    )
    columns = {"a": [[1, 2], [3.5, 0]], "text": ["é", "x"]}
    answer = shared.ask("POST", PREDICT, {"signature_name": "named", "inputs": columns})
    assert answer == (
        200,
        {
            "outputs": {
                "sum": [3.0, 3.5],
                "text": ["é", "x"],
                "text_bytes": [{"b64": "w6k="}, {"b64": "eA=="}],
            }
        },
    )


def test_numbers_that_json_lacks_are_bare_words_both_ways(shared):
    status, answer = shared.ask("POST", PREDICT, b'{"instances": [NaN, Infinity, -Infinity]}')
    # json.loads of the client reads the bare words; quoted they would be strings.
    assert status == 200
    assert [str(value) for value in answer["predictions"]] == ["nan", "inf", "-inf"]


def test_versions_labels_and_names_in_the_path(shared):
    assert shared.predict([1.0], "/versions/1")[0] == 200
    assert shared.ask("POST", "/v1/models/h%61lf:predict", {"instances": [1.0]})[0] == 200
    assert shared.ask("POST", "/V1/MODELS/half:predict", {"instances": [1.0]})[0] == 200
    # What stands behind the document is not read, as in TF Serving.
    assert shared.ask("POST", PREDICT, b'\xef\xbb\xbf {"instances": [1.0]} rest')[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, b'{"instances": [1.0', 400, "JSON Parse error"),
        (PREDICT, b"\xff\xfe{}", 400, "JSON Parse error"),
        (PREDICT, b"[" * 50_000, 400, "nested too deeply"),
        (PREDICT, b'{"instances": ' + b"[" * 90 + b"]" * 90 + b"}", 400, "nested deeper"),
        (PREDICT, b"[1.0]", 400, "Is not object"),
        (PREDICT, b'{"instances": [1' + b"0" * 400 + b"]}", 400, "Number too big"),
        (PREDICT, b'{"instances": [1' + b"0" * 9000 + b"]}", 400, "JSON Parse error"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"instances": [1.0], "inputs": [1.0]}, 400, "expecting only one of"),
        (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        (PREDICT, {"instances": 1.0}, 400, "to be an list/array"),
        (PREDICT, {"instances": [[1.0], [1.0, 2.0]]}, 400, "list at unexpected size: 2"),
        (PREDICT, {"instances": [[1.0], 2.0]}, 400, "found at incorrect level"),
        (PREDICT, {"instances": [1.0, [2.0]]}, 400, "Encountered list at unexpected level"),
        (PREDICT, {"instances": [[1.0]]}, 400, "expects shape ['?']. Received: [1, 1]"),
        (PREDICT, {"inputs": 1.0}, 400, "expects shape ['?']. Received: []"),
        (PREDICT, {"instances": ["1.0"]}, 400, "Type: String is not of expected type: float"),
        (PREDICT, {"instances": [True]}, 400, "is not of expected type: float"),
        (PREDICT, {"instances": [None]}, 400, "Type: Null"),
        (PREDICT, {"instances": [{"z": 1.0}]}, 400, "keys must be equal to: x"),
        (PREDICT, {"instances": [{"x": 1.0}, 1.0]}, 400, "Expecting object but got list at item 1"),
        (PREDICT, {"instances": [1.0, {"x": 1.0}]}, 400, "got object at item 1"),
        (PREDICT, {"inputs": {"z": [1.0]}}, 400, "Missing named input: x"),
        (PREDICT, {"instances": [1.0], "signature_name": "no"}, 400, 'name: "no" not found'),
        (PREDICT, {"instances": [1.0], "signature_name": 3}, 400, "must be a string value"),
        (PREDICT, {"instances": [1.0], "signature_name": "named"}, 400, "expecting list of obj"),
        (PREDICT, {"inputs": [1.0], "signature_name": "named"}, 400, "expecting an object"),
        (PREDICT, {"inputs": [[1.5]], "signature_name": "lengths"}, 400, "expected type: int32"),
        (PREDICT, {"inputs": [[2**31]], "signature_name": "lengths"}, 400, "expected type: int32"),
        (PREDICT, {"instances": [1.0], "signature_name": "flat"}, 400, "no shape information"),
        (PREDICT, {"instances": [-1.0]}, 400, "a row of -1"),
        (PREDICT, {"instances": [-3.0]}, 400, "a row of -3"),
        (PREDICT, {"instances": [-2.0]}, 500, "ValueError: a failure of the model's own"),
        ("/v1/models/half/versions/2:predict", {"instances": [1.0]}, 404, "Specific(half, 2)"),
        ("/v1/models/other:predict", {"instances": [1.0]}, 404, "Latest(other)"),
        ("/v1/models/half/labels/a:predict", {"instances": [1.0]}, 400, "Unrecognized servable"),
        ("/v1/models/half/versions/9223372036854775808:predict", {}, 400, "to numeric"),
        ("/v1/models/half:explain", {"instances": [1.0]}, 400, "Malformed request: POST /v1/mod"),
        ("/v1/models/half", {"instances": [1.0]}, 400, "Malformed request: POST /v1/models/half"),
        ("/v2/models/half:predict", {"instances": [1.0]}, 404, "There is no /v2"),
        ("/v1/models/half:classify", {"examples": [{"x": 1.0}]}, 400, "method_name to be"),
        ("/v1/models/half:regress", {"examples": []}, 400, "is an empty array"),
        ("/v1/models/half:regress", {"instances": [1.0]}, 400, "'examples' is expected"),
        ("/v1/models/half:regress", {"examples": {"x": 1}}, 400, "to be an list/array"),
        ("/v1/models/half:regress", {"examples": [1.0]}, 400, "Example must be JSON object"),
        ("/v1/models/half:regress", {"examples": [{"x": None}]}, 400, "unexpected JSON type"),
        ("/v1/models/half:regress", {"examples": [{"x": [1, 2.0]}]}, 400, "Unexpected element"),
        ("/v1/models/half:regress", {"examples": [{"x": 2**63}]}, 400, "beyond int64"),
        ("/v1/models/half:regress", b'{"examples": [{"\\ud800": 1}]}', 400, "surrogate"),
    ],
)
def test_every_mistake_has_its_status_and_says_what_it_is(shared, path, body, status, message):
    got, answer = shared.ask("POST", path, body)
    assert got == status
    assert list(answer) == ["error"]
    assert message in answer["error"]
    # The server answers on: a crash of the handler would show here.
    assert shared.predict([1.0]) == (200, {"predictions": [2.5]})


def test_a_damaged_body_is_never_a_failure_of_the_server(shared):
    """One byte of a request at a time is cut out, doubled, or another one."""
    connection = http.client.HTTPConnection("127.0.0.1", shared.server.rest_port, 10)
    inputs = {"a": [[1, -2.5e3]], "text": ["\u00e9"]}
    body = json.dumps({"signature_name": "named", "inputs": inputs}).encode()
    for i in range(len(body)):
        for middle in (b"", body[i : i + 1] * 2, b"[", b"\xff", b'"', b"9"):
            connection.request("POST", PREDICT, body[:i] + middle + body[i + 1 :])
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in (200, 400), text
            json.loads(text)
    connection.close()


def test_bad_base64_and_lone_surrogates_are_refused(shared):
    for text in (b'{"b64": "%"}', b'"\\ud800"', b'{"b64": 3}', b'{"b46": ""}', b"7"):
        inputs = b'{"a": [[1, 2]], "text": [' + text + b"]}"
        body = b'{"signature_name": "named", "inputs": ' + inputs + b"}"
        status, answer = shared.ask("POST", PREDICT, body)
        assert (status, list(answer)) == (400, ["error"])


def test_wrong_methods_of_http(shared):
    for method, path in (("GET", PREDICT), ("PUT", PREDICT), ("DELETE", "/v1/models/half")):
        status, answer = shared.ask(method, path)
        assert (status, answer["error"]) == (400, f"Malformed request: {method} {path}")
    assert shared.ask("GET", "/v1/models")[1] == {"error": "Missing model name in request."}


def test_a_body_beyond_the_limit_is_refused_also_when_it_is_packed(shared):
    body = json.dumps({"instances": [1.0] * 30_000}).encode()
    for sent, headers in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
        status, answer = shared.ask("POST", PREDICT, sent, headers)
        assert (status, list(answer)) == (413, ["error"])
    packed = gzip.compress(b'{"instances": [1.0]}')
    assert shared.ask("POST", PREDICT, packed, {"Content-Encoding": "gzip"})[0] == 200
    assert shared.ask("POST", PREDICT, b"no gzip", {"Content-Encoding": "gzip"})[0] == 400


def test_status_and_metadata(shared):
    status = {"error_code": "OK", "error_message": ""}
    states = [{"version": "1", "state": "AVAILABLE", "status": status}]
    for place in ("", "/versions/1"):
        answer = shared.ask("GET", f"/v1/models/half{place}")
        assert answer == (200, {"model_version_status": states})
    assert shared.ask("GET", "/v1/models/other")[0] == 404
    assert shared.ask("GET", "/v1/models/half/versions/7") == (
        404,
        {"error": "Could not find version 7 of model half"},
    )
    code, found = shared.ask("GET", "/v1/models/half/metadata")
    assert code == 200
    assert found["model_spec"]["name"] == "half"
    assert found["model_spec"]["version"] == "1"
    signature = found["metadata"]["signature_def"]["signature_def"]["named"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    a = signature["inputs"]["a"]
    assert a["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in a["tensor_shape"]["dim"]] == ["-1", "2"]
    assert shared.ask("GET", "/v1/models/other/metadata")[0] == 404


def test_health_readiness_and_metrics(shared):
    assert shared.ask("GET", "/healthz")[0] == shared.ask("GET", "/readyz")[0] == 200
    before = _count(shared, 'request_count{model_name="half",status="OK"}')
    shared.predict([1.0])
    shared.predict([1.0], "/versions/9")
    after = _count(shared, 'request_count{model_name="half",status="OK"}')
    # Fails where failures are counted as successes, or nothing is counted.
    assert after == before + 1
    assert _count(shared, 'request_count{model_name="half",status="NOT_FOUND"}') >= 1
    latency = 'request_latency_count{API="predict",entrypoint="REST",model_name="half"}'
    assert _count(shared, latency) >= 1
    page = shared.ask("GET", "/monitoring/prometheus/metrics")[1]
    assert '_bucket{API="predict",entrypoint="REST",le="18.0",model_name="half"}' in page
    assert "# TYPE :tensorflow:serving:request_count counter" in page


def test_made_up_names_do_not_become_series(shared):
    shared.ask("POST", "/v1/models/made-up:predict", {"instances": [1.0]})
    assert "made-up" not in shared.ask("GET", "/monitoring/prometheus/metrics")[1]


def _count(running, name):
    page = running.ask("GET", "/monitoring/prometheus/metrics")[1]
    lines = [line.rpartition(" ") for line in page.splitlines()]
    found = [float(value) for key, _, value in lines if key == f":tensorflow:serving:{name}"]
    return sum(found)


def test_a_deadline_ends_a_slow_request_and_a_wrong_one_is_refused(folder):
    with Running(folder) as running:
        model = running.loads.made[1]
        model.gate.clear()
        body = {"instances": [1.0]}
        status, answer = running.ask("POST", PREDICT, body, {"Grpc-Timeout": "50m"})
        assert (status, list(answer)) == (504, ["error"])
        model.gate.set()
        assert running.ask("POST", PREDICT, body, {"Grpc-Timeout": "9S"})[0] == 200
        assert running.ask("POST", PREDICT, body, {"Grpc-Timeout": "soon"})[0] == 400


def test_slow_clients_are_cut_off(folder):
    with Running(folder, timeout=0.2) as running:
        place = ("127.0.0.1", running.server.rest_port)
        head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\n"
        head += b"Content-Length: 9\r\n\r\n{"
        with socket.create_connection(place, 5) as body, socket.create_connection(place, 5) as bare:
            body.sendall(head)
            bare.sendall(b"POST /v1/mo")
            answer = body.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 408") and b'{"error"' in answer
            assert bare.makefile("rb").read() == b""  # closed; without the limit it would hang


def test_more_requests_than_the_limit_are_refused(folder):
    with Running(folder, most_requests=1) as running:
        running.core.running = 1
        status, answer = running.predict([1.0])
        assert (status, list(answer)) == (503, ["error"])
        running.core.running = 0
        assert running.predict([1.0])[0] == 200
