"""What TF Serving documents of half_plus_two, asked every server that there is.

The model is a real SavedModel in TensorFlow's C runtime. tests/export/test_served.py asks the same
servers an export. The fake of half_plus_two.py stands for it where time matters.
"""

import grpc
import model_servers
import numpy as np
import pytest
import saved_half_plus_two

from kerasft.serving import _protos as protos
from kerasft.serving import tensors

NAME = "half_plus_two"
PREDICT = f"/v1/models/{NAME}:predict"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
CONFIG = """
model_config_list { config {
  name: "half_plus_two" base_path: "%s" model_platform: "tensorflow"
  model_version_policy { all { } }
  version_labels { key: "stable" value: 123 }
  version_labels { key: "canary" value: 124 }
} }
"""
# The versions in a path of REST, or as gRPC's model_spec says them; 124 adds three.
STABLE, CANARY = [2.5, 3.0, 4.5], [3.5, 4.0, 5.5]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """half_plus_two with two versions, made once."""
    return saved_half_plus_two.save_versions(str(tmp_path_factory.mktemp("saved") / NAME))


@pytest.fixture(scope="module", params=model_servers.NAMES)
def server(request, folder, tmp_path_factory):
    """A server with both versions and a label for each."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG % folder, encoding="utf-8")
    with model_servers.configured(request.param, str(config), NAME) as asked:
        yield asked


@pytest.fixture(scope="module")
def stubs(server):
    """Clients of PredictionService and ModelService."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield (
            protos.prediction_service_pb2_grpc.PredictionServiceStub(channel),
            protos.model_service_pb2_grpc.ModelServiceStub(channel),
        )


def test_which_servers_are_asked(record_property):
    model_servers.told(record_property)


# --- REST ---------------------------------------------------------------------------------------


def test_predict_in_rows_and_in_columns(server):
    """Fails where the output is named though it is the only one, or another version answers."""
    stable = f"/v1/models/{NAME}/versions/123:predict"
    rows, columns = (200, {"predictions": STABLE}), (200, {"outputs": STABLE})
    assert server.ask("POST", stable, {"instances": [1.0, 2.0, 5.0]}) == rows
    assert server.ask("POST", stable, {"instances": [{"x": 1.0}, {"x": 2.0}, {"x": 5.0}]}) == rows
    assert server.ask("POST", stable, {"inputs": [1.0, 2.0, 5.0]}) == columns
    assert server.ask("POST", stable, {"inputs": {"x": [1.0, 2.0, 5.0]}}) == columns
    named = {"signature_name": "serving_default", "instances": [1.0, 2.0, 5.0]}
    assert server.ask("POST", stable, named) == rows


@pytest.mark.parametrize(
    ("which", "answer"),
    [
        ("", CANARY),
        ("/versions/124", CANARY),
        ("/labels/stable", STABLE),
        ("/labels/canary", CANARY),
    ],
)
def test_the_newest_version_or_the_one_that_is_asked(server, which, answer):
    found = server.ask("POST", f"/v1/models/{NAME}{which}:predict", {"instances": [1.0, 2.0, 5.0]})
    assert found == (200, {"predictions": answer})


@pytest.mark.parametrize(
    ("verb", "signature", "results"),
    [
        ("regress", "regress_x_to_y", [2.5, 3.0, 4.5]),
        ("regress", "regress_x_to_y2", [3.5, 4.0, 5.5]),
        ("classify", "classify_x_to_y", [[["", 2.5]], [["", 3.0]], [["", 4.5]]]),
    ],
)
def test_regress_and_classify(server, verb, signature, results):
    path = f"/v1/models/{NAME}/labels/stable:{verb}"
    body = {"signature_name": signature, "examples": [{"x": 1.0}, {"x": [2.0]}, {"x": 5.0}]}
    assert server.ask("POST", path, body) == (200, {"results": results})
    shared = {"signature_name": signature, "context": {"x": 2.0}, "examples": [{}]}
    assert server.ask("POST", path, shared) == (200, {"results": results[1:2]})


def test_status(server):
    def state(version):
        status = {"error_code": "OK", "error_message": ""}
        return {"version": version, "state": "AVAILABLE", "status": status}

    found = server.ask("GET", f"/v1/models/{NAME}")
    assert found == (200, {"model_version_status": [state("124"), state("123")]})
    one = server.ask("GET", f"/v1/models/{NAME}/versions/123")
    assert one == (200, {"model_version_status": [state("123")]})


def test_metadata(server):
    status, answer = server.ask("GET", f"/v1/models/{NAME}/versions/123/metadata")
    assert status == 200
    spec = answer["model_spec"]
    assert (spec["name"], spec["version"]) == (NAME, "123")
    found = answer["metadata"]["signature_def"]["signature_def"]
    served = {name: one for name, one in found.items() if not name.startswith("__")}
    assert {name: one["method_name"] for name, one in served.items()} == {
        "serving_default": "tensorflow/serving/predict",
        "regress_x_to_y": REGRESS,
        "regress_x_to_y2": REGRESS,
        "classify_x_to_y": CLASSIFY,
    }
    x = served["serving_default"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert [one["size"] for one in x["tensor_shape"]["dim"]] == ["-1"]
    scores = served["classify_x_to_y"]["outputs"]["scores"]
    assert [one["size"] for one in scores["tensor_shape"]["dim"]] == ["-1", "1"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/v1/models/half:predict", {"instances": [1.0]}, 404, "Latest(half)"),
        (
            "POST",
            f"/v1/models/{NAME}/versions/7:predict",
            {"instances": [1.0]},
            404,
            f"Specific({NAME}, 7)",
        ),
        ("POST", f"/v1/models/{NAME}/labels/no:predict", {"instances": [1.0]}, 400, "label: no"),
        ("POST", PREDICT, b'{"instances": [1.0', 400, "JSON Parse error"),
        ("POST", PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        ("POST", PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        ("POST", PREDICT, {"instances": []}, 400, "No values in 'instances'"),
        ("POST", PREDICT, {"instances": 1.0}, 400, "to be an list/array"),
        ("POST", PREDICT, {"instances": ["one"]}, 400, "is not of expected type: float"),
        ("POST", PREDICT, {"instances": [1.0], "inputs": [1.0]}, 400, "only one of"),
        ("POST", PREDICT, {"instances": [1.0], "signature_name": "no"}, 400, '"no" not found'),
        (
            "POST",
            f"/v1/models/{NAME}:regress",
            {"examples": [{"x": 1.0}]},
            400,
            "Expected regression signature method_name to be",
        ),
        (
            "POST",
            f"/v1/models/{NAME}:classify",
            {"signature_name": "no", "examples": [{"x": 1.0}]},
            400,
            "No signature was found with the name: no",
        ),
        ("POST", f"/v1/models/{NAME}:predict2", {"instances": [1.0]}, 400, "Malformed request"),
        ("GET", PREDICT, None, 400, "Malformed request"),
        ("GET", "/v1/models/half", None, 404, "Could not find any versions of model half"),
        ("GET", f"/v1/models/{NAME}/versions/7", None, 404, "Could not find version 7"),
        ("GET", "/v1/models/half/metadata", None, 404, "Latest(half)"),
    ],
)
def test_a_mistake_has_its_status_and_an_error(server, method, path, body, status, message):
    found, answer = server.ask(method, path, body)
    assert found == status and list(answer) == ["error"]
    assert message in answer["error"]


def test_what_the_graph_refuses_is_the_clients_mistake(server):
    """An example without its feature, which only the graph finds out."""
    body = {"signature_name": "regress_x_to_y", "examples": [{"z": 1.0}]}
    status, answer = server.ask("POST", f"/v1/models/{NAME}:regress", body)
    assert status == 400 and "x" in answer["error"]


# --- gRPC ---------------------------------------------------------------------------------------


def spec(request, signature="", model=NAME, version=None, label=None):
    """A request, or one of its tasks, with its model_spec."""
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def to_predict(values=(1.0, 2.0, 5.0), **which):
    request = spec(protos.predict_pb2.PredictRequest(), **which)
    request.inputs["x"].CopyFrom(tensors.to_proto(np.array(values, np.float32)))
    return request


def with_examples(request, *values):
    for value in values:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    return request


@pytest.mark.parametrize(
    ("which", "version", "answer"),
    [
        ({}, 124, CANARY),
        ({"version": 123}, 123, STABLE),
        ({"label": "stable"}, 123, STABLE),
        ({"label": "canary", "signature": "serving_default"}, 124, CANARY),
    ],
)
def test_predict(stubs, which, version, answer):
    found = stubs[0].Predict(to_predict(**which), timeout=60)
    assert tensors.from_proto(found.outputs["y"]).tolist() == answer
    named = found.model_spec
    assert (named.name, named.version.value) == (NAME, version)
    assert named.signature_name == "serving_default"


def test_classify_regress_and_both_at_once(stubs):
    ask, _ = stubs
    request = spec(
        protos.classification_pb2.ClassificationRequest(), "classify_x_to_y", version=123
    )
    answer = ask.Classify(with_examples(request, 1.0, 5.0), timeout=60)
    found = [[(c.label, c.score) for c in row.classes] for row in answer.result.classifications]
    assert found == [[("", 2.5)], [("", 4.5)]]

    request = spec(protos.regression_pb2.RegressionRequest(), "regress_x_to_y2", version=123)
    answer = ask.Regress(with_examples(request, 1.0, 5.0), timeout=60)
    assert [one.value for one in answer.result.regressions] == [3.5, 5.5]

    request = with_examples(protos.inference_pb2.MultiInferenceRequest(), 1.0, 2.0)
    for method, name in ((REGRESS, "regress_x_to_y"), (CLASSIFY, "classify_x_to_y")):
        spec(request.tasks.add(method_name=method), name, label="stable")
    first, second = ask.MultiInference(request, timeout=60).results
    assert [one.value for one in first.regression_result.regressions] == [2.5, 3.0]
    scores = [row.classes[0].score for row in second.classification_result.classifications]
    assert scores == [2.5, 3.0]
    assert first.model_spec.signature_name == "regress_x_to_y"


def test_metadata_and_status_by_grpc(stubs):
    ask, models = stubs
    request = spec(protos.get_model_metadata_pb2.GetModelMetadataRequest(), version=123)
    request.metadata_field.append("signature_def")
    answer = ask.GetModelMetadata(request, timeout=60)
    found = protos.get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert found.signature_def["regress_x_to_y"].method_name == REGRESS
    request = spec(protos.get_model_status_pb2.GetModelStatusRequest())
    states = models.GetModelStatus(request, timeout=60).model_version_status
    assert {one.version: one.State.Name(one.state) for one in states} == {
        123: "AVAILABLE",
        124: "AVAILABLE",
    }


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ({"model": ""}, "INVALID_ARGUMENT"),
        ({"model": "half"}, "NOT_FOUND"),
        ({"version": 7}, "NOT_FOUND"),
        ({"label": "no"}, "INVALID_ARGUMENT"),
        ({"signature": "no"}, "FAILED_PRECONDITION"),
    ],
)
def test_a_mistake_has_its_code(stubs, which, code):
    with pytest.raises(grpc.RpcError) as error:
        stubs[0].Predict(to_predict(**which), timeout=60)
    assert error.value.code() == grpc.StatusCode[code]


def test_mistakes_in_what_is_sent(stubs):
    ask, _ = stubs
    other = to_predict()
    other.inputs["z"].CopyFrom(other.inputs["x"])
    empty = spec(protos.classification_pb2.ClassificationRequest(), "classify_x_to_y")
    method = with_examples(spec(protos.regression_pb2.RegressionRequest(), "classify_x_to_y"), 1.0)
    for call, request in ((ask.Predict, other), (ask.Classify, empty), (ask.Regress, method)):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=60)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# --- the servers themselves ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_as_the_documents_start_it(folder, tmp_path):
    """By its base path and name, which serves the newest version; one server after the other."""
    for name in model_servers.NAMES:
        with model_servers.of_folder(name, folder) as asked:
            found = asked.ask("POST", PREDICT, {"instances": [1.0, 2.0, 5.0]})
            assert found == (200, {"predictions": CANARY})
            older = asked.ask("POST", f"/v1/models/{NAME}/versions/123:predict", {"instances": [1]})
            assert older[0] == 404
        assert asked.process.poll() is not None
