"""gRPC with the stubs of tensorflow-serving-api as clients."""

import grpc
import numpy as np
import pytest
from half_plus_two import Running, write_version

from kerasft.serving import tensors
from kerasft.serving._protos import (
    Example,
    ModelServerConfig,
    TensorProto,
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def named(request, signature="", model="half", version=None, label=None):
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def to_predict(inputs=None, **which):
    request = named(predict_pb2.PredictRequest(), **which)
    values = {"x": np.array([1.0, 2.0, 5.0], np.float32)} if inputs is None else inputs
    for name, value in values.items():
        request.inputs[name].CopyFrom(tensors.to_proto(np.asarray(value)))
    return request


def with_examples(request, *values):
    for value in values:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    return request


def refused(call, request, code, message="", **options):
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=10, **options)
    assert error.value.code() == grpc.StatusCode[code]
    assert message in error.value.details()


def test_predict(shared):
    answer = shared.predictions.Predict(to_predict(), timeout=10)
    assert list(answer.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    spec = answer.model_spec
    found = (spec.name, spec.signature_name, spec.version.value)
    assert found == ("half", "serving_default", 1)


def test_predict_gives_the_outputs_that_are_asked_for(shared):
    inputs = {"a": np.ones((1, 2), np.float32), "text": tensors.strings([b"\xff"])}
    request = to_predict(inputs, signature="named")
    assert set(shared.predictions.Predict(request).outputs) == {"sum", "text", "text_bytes"}
    request.output_filter.append("text")
    outputs = shared.predictions.Predict(request, timeout=10).outputs
    assert {name: list(value.string_val) for name, value in outputs.items()} == {"text": [b"\xff"]}
    request.output_filter.append("text")
    refused(shared.predictions.Predict, request, "INVALID_ARGUMENT", "duplicate output")
    request.output_filter[1] = "z"
    refused(shared.predictions.Predict, request, "INVALID_ARGUMENT", "alias not found")


def test_classify_regress_and_both_at_once(shared):
    request = named(classification_pb2.ClassificationRequest(), "classify")
    answer = shared.predictions.Classify(with_examples(request, 0.5, 0.25), timeout=10)
    found = [[(c.label, c.score) for c in row.classes] for row in answer.result.classifications]
    assert found == [[("up", 0.5), ("down", -0.5)], [("up", 0.25), ("down", -0.25)]]
    request = named(regression_pb2.RegressionRequest(), "regress")
    answer = shared.predictions.Regress(with_examples(request, 1.0, 5.0), timeout=10)
    assert [one.value for one in answer.result.regressions] == [2.5, 4.5]
    request = with_examples(inference_pb2.MultiInferenceRequest(), 1.0)
    for method, name in ((REGRESS, "regress"), (CLASSIFY, "classify")):
        named(request.tasks.add(method_name=method), name)
    answer = shared.predictions.MultiInference(request, timeout=10)
    first, second = answer.results
    assert first.regression_result.regressions[0].value == 2.5
    assert second.classification_result.classifications[0].classes[1].score == -1.0
    assert second.model_spec.signature_name == "classify"


def test_a_context_goes_before_each_example(shared):
    request = named(regression_pb2.RegressionRequest(), "regress")
    held = request.input.example_list_with_context
    held.context.features.feature["x"].float_list.value.append(1.0)
    held.examples.add()
    held.examples.add().features.feature["x"].float_list.value.append(5.0)
    answer = shared.predictions.Regress(request, timeout=10)
    assert [one.value for one in answer.result.regressions] == [2.5, 4.5]


def test_metadata_and_status(shared):
    request = named(get_model_metadata_pb2.GetModelMetadataRequest())
    request.metadata_field.append("signature_def")
    answer = shared.predictions.GetModelMetadata(request, timeout=10)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert answer.model_spec.version.value == 1
    assert found.signature_def["regress"].method_name == REGRESS
    assert [d.size for d in found.signature_def["regress"].outputs["outputs"].tensor_shape.dim] == [
        -1,
        1,
    ]
    request.metadata_field.append("weights")
    refused(shared.predictions.GetModelMetadata, request, "INVALID_ARGUMENT", "weights")
    request = named(get_model_status_pb2.GetModelStatusRequest())
    (state,) = shared.models.GetModelStatus(request, timeout=10).model_version_status
    assert (state.version, state.State.Name(state.state)) == (1, "AVAILABLE")
    request.model_spec.version.value = 7
    refused(shared.models.GetModelStatus, request, "NOT_FOUND", "Could not find version 7")


@pytest.mark.parametrize(
    ("which", "inputs", "code", "message"),
    [
        ({"model": ""}, None, "INVALID_ARGUMENT", "no name"),
        ({"model": "other"}, None, "NOT_FOUND", "Latest(other)"),
        ({"version": 7}, None, "NOT_FOUND", "Specific(half, 7)"),
        ({"label": "canary"}, None, "INVALID_ARGUMENT", "Unrecognized servable version label"),
        ({"signature": "no"}, None, "FAILED_PRECONDITION", 'signature key "no" not found'),
        ({}, {}, "INVALID_ARGUMENT", "Missing but required: {x}"),
        ({}, {"z": [1.0]}, "INVALID_ARGUMENT", "Sent extra: {z}"),
        ({}, {"x": np.float64([1.0])}, "INVALID_ARGUMENT", "expects float32. Received: float64"),
        ({}, {"x": np.float32([[1.0]])}, "INVALID_ARGUMENT", "expects shape ['?']"),
        (
            {"signature": "named"},
            {"a": np.ones((1, 3), np.float32), "text": tensors.strings([b""])},
            "INVALID_ARGUMENT",
            "expects shape ['?', 2]. Received: [1, 3]",
        ),
        ({}, {"x": np.float32([-1.0])}, "INVALID_ARGUMENT", "a row of -1"),
        ({}, {"x": np.float32([-2.0])}, "INTERNAL", "ValueError"),
    ],
)
def test_every_mistake_has_its_code(shared, which, inputs, code, message):
    refused(shared.predictions.Predict, to_predict(inputs, **which), code, message)


def test_mistakes_in_classify_and_multi_inference(shared):
    request = named(classification_pb2.ClassificationRequest(), "classify")
    refused(shared.predictions.Classify, request, "INVALID_ARGUMENT", "Input is empty")
    with_examples(request, 1.0).model_spec.signature_name = "regress"
    refused(shared.predictions.Classify, request, "INVALID_ARGUMENT", "method_name to be")
    named(request, "no")
    refused(shared.predictions.Classify, request, "INVALID_ARGUMENT", "No signature was found")

    both = with_examples(inference_pb2.MultiInferenceRequest(), 1.0)
    refused(shared.predictions.MultiInference, both, "INVALID_ARGUMENT", "needs tasks")
    named(both.tasks.add(method_name=REGRESS), "regress")
    named(both.tasks.add(method_name=REGRESS), "regress")
    refused(shared.predictions.MultiInference, both, "INVALID_ARGUMENT", "Duplicate")
    named(both.tasks[1], "classify", model="other")
    refused(shared.predictions.MultiInference, both, "INVALID_ARGUMENT", "same model name")
    named(both.tasks[1], "classify").method_name = "tensorflow/serving/predict"
    refused(shared.predictions.MultiInference, both, "UNIMPLEMENTED", "Unsupported")


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(dtype=99),
        TensorProto(dtype=1, tensor_content=b"123"),
        TensorProto(dtype=1, float_val=[1.0, 2.0]),
    ],
)
def test_tensors_that_do_not_fit_are_refused(shared, proto):
    request = to_predict({})
    request.inputs["x"].CopyFrom(proto)
    if proto.float_val:
        request.inputs["x"].tensor_shape.dim.add(size=1)
    refused(shared.predictions.Predict, request, "INVALID_ARGUMENT")
    huge = to_predict({})
    huge.inputs["x"].CopyFrom(TensorProto(dtype=1, float_val=[1.0]))
    huge.inputs["x"].tensor_shape.dim.add(size=2**40)  # a few bytes for 4 TB
    refused(shared.predictions.Predict, huge, "INVALID_ARGUMENT", "values for shape")


def test_a_message_beyond_the_limit_and_a_message_that_is_too_long(shared):
    request = to_predict({"x": np.zeros(50_000, np.float32)})
    refused(shared.predictions.Predict, request, "RESOURCE_EXHAUSTED")
    name = "m" * 5000
    refused(shared.predictions.Predict, to_predict(model=name), "NOT_FOUND", "...TRUNCATED")


def test_the_clients_deadline(folder):
    with Running(folder) as running:
        running.loads.made[1].gate.clear()
        with pytest.raises(grpc.RpcError) as error:
            running.predictions.Predict(to_predict(), timeout=0.1)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        running.loads.made[1].gate.set()
        answer = running.predictions.Predict(to_predict(), timeout=10)
        assert list(answer.outputs["y"].float_val) == [2.5, 3.0, 4.5]


def test_reload_config_adds_changes_and_removes_models(folder, tmp_path):
    write_version(folder, 2, plus=3.0)
    write_version(tmp_path / "other", 5)
    with Running(folder) as running:
        config = ModelServerConfig()
        half = config.model_config_list.config.add(name="half", base_path=str(folder))
        half.model_platform = "tensorflow"
        half.model_version_policy.all.SetInParent()
        half.version_labels.update({"stable": 1, "canary": 2})
        other = config.model_config_list.config.add(name="other", model_platform="tensorflow")
        other.base_path = str(tmp_path / "other")
        request = model_management_pb2.ReloadConfigRequest(config=config)
        request.metric_names.append("/tensorflow/serving/request_count")
        answer = running.models.HandleReloadConfigRequest(request, timeout=10)
        assert (answer.status.error_code, answer.metric[0].int64_value_increase) == (0, 0)
        by_label = {}
        for label in ("stable", "canary"):
            answer = running.predictions.Predict(to_predict(label=label), timeout=10)
            by_label[label] = answer.outputs["y"].float_val[0]
        # Fails where a label is read as the newest version.
        assert by_label == {"stable": 2.5, "canary": 3.5}
        path = "/v1/models/half/labels/stable:predict"
        assert running.ask("POST", path, {"instances": [1.0]})[1] == {"predictions": [2.5]}
        assert running.predictions.Predict(to_predict(model="other")).model_spec.version.value == 5

        half.version_labels["canary"] = 9
        request = model_management_pb2.ReloadConfigRequest(config=config)
        refused(
            running.models.HandleReloadConfigRequest,
            request,
            "FAILED_PRECONDITION",
            "not currently available for inference",
        )
        # What was refused has not moved the labels.
        answer = running.predictions.Predict(to_predict(label="canary"), timeout=10)
        assert answer.outputs["y"].float_val[0] == 3.5

        del config.model_config_list.config[1]
        half.version_labels.clear()
        request = model_management_pb2.ReloadConfigRequest(config=config)
        running.models.HandleReloadConfigRequest(request, timeout=10)
        refused(running.predictions.Predict, to_predict(model="other"), "NOT_FOUND")
        refused(running.predictions.Predict, to_predict(label="stable"), "INVALID_ARGUMENT")


def test_a_config_that_cannot_be_served_changes_nothing(folder, tmp_path):
    with Running(folder) as running:
        config = ModelServerConfig()
        reload = running.models.HandleReloadConfigRequest

        def request():
            return model_management_pb2.ReloadConfigRequest(config=config)

        refused(reload, request(), "INVALID_ARGUMENT", "model_config_list")
        one = config.model_config_list.config.add(name="new", base_path="relative")
        refused(reload, request(), "INVALID_ARGUMENT", "model_platform")
        one.model_platform = "tensorflow"
        refused(reload, request(), "INVALID_ARGUMENT", "absolute")
        one.base_path = str(tmp_path / "nowhere")
        refused(reload, request(), "NOT_FOUND", "Could not find base path")
        (tmp_path / "nowhere").mkdir()
        refused(reload, request(), "NOT_FOUND", "No versions of servable new")
        answer = running.predictions.Predict(to_predict(), timeout=10)
        assert answer.outputs["y"].float_val[0] == 2.5


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int64", "uint16", "uint64", "bool"]
)
def test_arrays_come_back_from_their_protos(dtype):
    array = np.array([[0, 1, 1]], tensors.numpy_type(dtype))
    back = tensors.from_proto(tensors.to_proto(array))
    assert back.dtype == array.dtype and np.array_equal(back, array)
    packed = TensorProto(dtype=tensors.data_type(dtype), tensor_content=array.tobytes())
    packed.tensor_shape.CopyFrom(tensors.to_proto(array).tensor_shape)
    assert np.array_equal(tensors.from_proto(packed), array)


def test_the_last_value_of_a_proto_stands_for_the_rest():
    proto = TensorProto(dtype=1, float_val=[1.0, 7.0])
    proto.tensor_shape.dim.add(size=4)
    assert tensors.from_proto(proto).tolist() == [1.0, 7.0, 7.0, 7.0]
    del proto.float_val[:]
    assert tensors.from_proto(proto).tolist() == [0.0] * 4
    text = TensorProto(dtype=7, string_val=[b"a"])
    text.tensor_shape.dim.add(size=2)
    assert tensors.from_proto(text).tolist() == [b"a", b"a"]


def test_an_example_of_json_has_the_kinds_of_its_values():
    made = tensors.example_of({"i": [1, True], "f": 1.5, "s": ["é", b"\xff"], "none": []})
    features = Example.FromString(made.SerializeToString()).features.feature
    assert list(features["i"].int64_list.value) == [1, 1]
    assert list(features["f"].float_list.value) == [1.5]
    assert list(features["s"].bytes_list.value) == ["é".encode(), b"\xff"]
