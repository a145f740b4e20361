"""TF Serving's gRPC for a client."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from kerasft.serving import descriptions, json_form, tensors
from kerasft.serving._client_calls import Call, Passing
from kerasft.serving._client_rows import Row, Signature
from kerasft.serving._protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from kerasft.serving.errors import ServingError

_OPTIONS = [
    ("grpc.enable_retries", 0),  # the client's own tries know its deadline
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that starts is found soon; else the pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Grpc:
    """A channel, and the requests that go over it.

    Args:
        host, port: of the server.
        secure: whether it speaks TLS.
        model: name of the model.
        version, label: which version; None: the newest.
    """

    def __init__(
        self, host: str, port: int, secure: bool, model: str, version: int | None, label: str | None
    ):
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if secure:
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.secure_channel(target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._spec = model_pb2.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        if label is not None:
            self._spec.version_label = label

    def metadata(self, call: Call) -> Any:
        """What the version says of its signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=self._spec)
        request.metadata_field.append("signature_def")
        response = _ask(call, self._predictions.GetModelMetadata, request)
        return json.loads(descriptions.metadata_json(response))

    def status(self, call: Call) -> Any:
        """The states of the versions."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec)
        response = _ask(call, self._models.GetModelStatus, request)
        return json.loads(descriptions.states_json(response))

    def predict(self, call: Call, name: str, signature: Signature, rows: list[Row]) -> list[Row]:
        """The outputs of each row."""
        request = self._named(predict_pb2.PredictRequest(), name)
        for key, data_type in signature.inputs.items():
            column = json_form.dense([row[key] for row in rows], tensors.named(data_type))
            request.inputs[key].CopyFrom(tensors.to_proto(column))
        response = _ask(call, self._predictions.Predict, request)
        columns = {}
        for key in sorted(response.outputs):
            value = tensors.from_proto(response.outputs[key])
            if value.ndim == 0 or len(value) != len(rows):
                raise _uneven(len(rows), f"an output {key} of shape {list(value.shape)}")
            texts = value.dtype.kind == "O" and not key.endswith("_bytes")
            columns[key] = (_texts(value) if texts else value).tolist()
        return [{key: values[i] for key, values in columns.items()} for i in range(len(rows))]

    def classify(self, call: Call, name: str, rows: list[Row]) -> list[list[tuple[str, float]]]:
        """Labels and scores of each row."""
        request = self._with_examples(classification_pb2.ClassificationRequest(), name, rows)
        found = _ask(call, self._predictions.Classify, request).result.classifications
        _check_count(len(found), len(rows))
        return [[(one.label, one.score) for one in row.classes] for row in found]

    def regress(self, call: Call, name: str, rows: list[Row]) -> list[float]:
        """The value of each row."""
        request = self._with_examples(regression_pb2.RegressionRequest(), name, rows)
        found = _ask(call, self._predictions.Regress, request).result.regressions
        _check_count(len(found), len(rows))
        return [one.value for one in found]

    def close(self) -> None:
        """Give up the channel."""
        self._channel.close()

    def _named(self, request: Any, name: str) -> Any:
        request.model_spec.CopyFrom(self._spec)
        request.model_spec.signature_name = name
        return request

    def _with_examples(self, request: Any, name: str, rows: list[Row]) -> Any:
        for one in json_form.examples_of({"examples": rows}):
            request.input.example_list.examples.add().ParseFromString(one)
        return self._named(request, name)


def _ask(call: Call, method: Callable, request: Any) -> Any:
    """A response, within what is left of the call."""
    try:
        future = method.future(request, timeout=call.left())
        with call.ends(future.cancel):
            return future.result()
    except grpc.RpcError as error:
        failure = ServingError(error.code().name, error.details() or "")
        if failure.code == "DEADLINE_EXCEEDED" and not failure.args[0]:
            failure = call.late()
        # What is too large stays so.
        full = failure.code == "RESOURCE_EXHAUSTED" and "larger than max" not in str(failure)
        raise (Passing(failure) if full or failure.code == "UNAVAILABLE" else failure) from None
    except (grpc.FutureCancelledError, ValueError) as error:  # the second: of a closed channel
        raise ServingError("CANCELLED", f"The call was ended: {error}") from None


def _texts(values: np.ndarray) -> np.ndarray:
    made = np.empty(values.shape, object)
    made.reshape(-1)[:] = [value.decode("utf-8", "replace") for value in values.reshape(-1)]
    return made


def _check_count(found: int, rows: int) -> None:
    if found != rows:
        raise _uneven(rows, f"{found} answers")


def _uneven(rows: int, found: str) -> ServingError:
    return ServingError("INTERNAL", f"{rows} rows were asked, and {found} came.")
