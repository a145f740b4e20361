"""The warm-up requests of a version: played once it is loaded, before anybody else may ask it."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from kerasft.serving import tensors
from kerasft.serving._protos import prediction_log_pb2
from kerasft.serving.errors import ServingError, code_of, message_of
from kerasft.serving.inference import CLASSIFY, REGRESS, Inference
from kerasft.serving.metrics import Metrics
from kerasft.serving.tfrecord import records

LOG = logging.getLogger("kerasft.serving")
PLACE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MOST = 1000  # records of a file; more fail the load, as in TF Serving


def warmed(load: Callable[[str], Any], metrics: Metrics, seconds: float) -> Callable[[str], Any]:
    """`load`, followed by the version's warm-up requests.

    The first request of a graph is slow, because it prepares the ops and takes the memory. Here
    nobody waits for it: a version is not available before its requests are answered, and one
    request that is not answered fails the load.

    Args:
        load: a version's folder to a model.
        metrics: counts the time.
        seconds: after which the requests that are left over are left out. TF Serving has no such
            limit.

    Returns:
        A function as `load`; it raises ServingError for a record that is damaged, no
        `PredictionLog`, or not answered.

    Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc.
    """

    def loaded(folder: str) -> Any:
        model = load(folder)
        try:
            _play(model, folder, metrics, seconds)
        except BaseException:
            model.close()
            raise
        return model

    return loaded


def _play(model: Any, folder: str, metrics: Metrics, seconds: float) -> None:
    path = os.path.join(folder, PLACE)
    if not os.path.isfile(path):
        return
    began, code = time.perf_counter(), "OK"
    try:
        played, left = asyncio.run(_played(model, path, began + seconds))
    except ServingError as error:
        code = error.code
        raise
    finally:
        metrics.warmed(folder, code, time.perf_counter() - began)
    LOG.info("%s: %d warm-up requests answered", folder, played)
    if left:
        LOG.warning("%s: those behind them were left out after %g seconds", folder, seconds)


async def _played(model: Any, path: str, end: float) -> tuple[int, bool]:
    """How many records were played, and whether the time ended before the file did."""
    # Nobody sent these requests: they are in no log, and none of the counters of requests.
    inference, version, number = Inference(Metrics()), _Aside(model), 0
    for number, record in enumerate(records(path, checked=True), 1):
        told = f"Record {number} of {path}"
        if record is None:
            raise ServingError("DATA_LOSS", f"{told} is damaged, cut off, or too long.")
        if number > MOST:
            raise ServingError("INVALID_ARGUMENT", f"{path} has more than {MOST:,} records.")
        if time.perf_counter() > end:
            return number - 1, True
        log = prediction_log_pb2.PredictionLog()
        try:
            log.ParseFromString(record)
        except DecodeError:
            raise ServingError("INVALID_ARGUMENT", f"{told} is no PredictionLog.") from None
        try:
            await _answer(inference, version, log)
        except Exception as error:
            raise ServingError(code_of(error), f"{told}: {message_of(error)}") from error
    return number, False


async def _answer(inference: Inference, version: Any, log: Any) -> None:
    """Ask what a log holds; one without a request is passed over, as in TF Serving."""
    kind = log.WhichOneof("log_type")
    if kind == "session_run_log":
        raise ServingError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind}")
    if kind not in ("predict_log", "classify_log", "regress_log", "multi_inference_log"):
        return
    request = getattr(log, kind).request
    if kind == "predict_log":
        inputs = {name: tensors.from_proto(proto) for name, proto in request.inputs.items()}
        name, only = request.model_spec.signature_name, list(request.output_filter)
        await inference.predict(version, name, inputs, only)
        return
    if kind == "multi_inference_log":
        tasks = [(task.method_name, task.model_spec) for task in request.tasks]
    else:
        tasks = [(CLASSIFY if kind == "classify_log" else REGRESS, request.model_spec)]
    examples = tensors.examples_of(request.input)
    for method, spec in tasks:
        if method not in (CLASSIFY, REGRESS):
            raise ServingError("UNIMPLEMENTED", f"Unsupported signature method_name: {method}")
        answer = inference.classify if method == CLASSIFY else inference.regress
        await answer(version, spec.signature_name, examples)


@dataclass(frozen=True)
class _Aside:
    """A version that is not served yet, as `Inference` takes it: nobody to share a batch with."""

    model: Any
    name: str = ""

    @property
    def signatures(self) -> Mapping[str, Any]:
        return self.model.signatures

    async def run(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], float]:
        return self.model.run(signature, inputs), 0.0
