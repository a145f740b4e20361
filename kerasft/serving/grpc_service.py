"""TF Serving's gRPC services, on grpc.aio: PredictionService and ModelService."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from kerasft._core.errors import InputError
from kerasft.serving import descriptions, tensors
from kerasft.serving._protos import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from kerasft.serving.config import models_of
from kerasft.serving.core import Core, apart
from kerasft.serving.errors import ServingError, code_of, cut, invalid, message_of
from kerasft.serving.inference import CLASSIFY, REGRESS, check_method
from kerasft.serving.json_form import DEFAULT
from kerasft.serving.versions import Loaded


def add_services(server: grpc.aio.Server, core: Core) -> None:
    """Let a gRPC server answer as TF Serving does."""
    prediction, model = _Prediction(core), _Model(core)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, server)


class Parsing(grpc.aio.ServerInterceptor):
    """Reads the messages in place of grpc.aio, which ends a call whose bytes are no message with
    UNKNOWN and logs a traceback; gRPC in C++, and so TF Serving, with INTERNAL."""

    async def intercept_service(self, continuation: Callable, details: Any) -> Any:
        found = await continuation(details)
        if found is None:
            return None

        async def parsed(message: bytes, context: Any) -> Any:
            try:
                request = found.request_deserializer(message)
            except DecodeError:
                told = "The bytes are not the message of this method."
                await context.abort(grpc.StatusCode.INTERNAL, told)
            return await found.unary_unary(request, context)

        serializer = found.response_serializer
        return grpc.unary_unary_rpc_method_handler(parsed, response_serializer=serializer)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, core: Core):
        self._core = core

    async def Predict(self, request: Any, context: Any) -> Any:
        async def answer(version: Loaded) -> Any:
            inputs = await apart(request.ByteSize(), _arrays, request.inputs)
            name, only = request.model_spec.signature_name, list(request.output_filter)
            outputs = await self._core.inference.predict(version, name, inputs, only)
            size = sum(value.nbytes for value in outputs.values())
            response = await apart(size, _response, outputs)
            return self._named(response, request.model_spec, version)

        return await self._counted("Predict", request.model_spec, context, answer)

    async def Classify(self, request: Any, context: Any) -> Any:
        async def answer(version: Loaded) -> Any:
            response = classification_pb2.ClassificationResponse()
            spec, size = request.model_spec, request.ByteSize()
            examples = await apart(size, tensors.examples_of, request.input)
            await self._classify(version, spec, examples, response.result)
            return self._named(response, request.model_spec, version)

        return await self._counted("Classify", request.model_spec, context, answer)

    async def Regress(self, request: Any, context: Any) -> Any:
        async def answer(version: Loaded) -> Any:
            response = regression_pb2.RegressionResponse()
            spec, size = request.model_spec, request.ByteSize()
            examples = await apart(size, tensors.examples_of, request.input)
            await self._regress(version, spec, examples, response.result)
            return self._named(response, request.model_spec, version)

        return await self._counted("Regress", request.model_spec, context, answer)

    async def MultiInference(self, request: Any, context: Any) -> Any:
        async def answer(version: Loaded) -> Any:
            kinds = {CLASSIFY: self._classify, REGRESS: self._regress}
            for task in request.tasks:
                _check_task(task, version, kinds)
            examples = await apart(request.ByteSize(), tensors.examples_of, request.input)
            response = inference_pb2.MultiInferenceResponse()
            for task in request.tasks:
                result = response.results.add()
                field = "classification" if task.method_name == CLASSIFY else "regression"
                held = getattr(result, f"{field}_result")
                await kinds[task.method_name](version, task.model_spec, examples, held)
                self._named(result, task.model_spec, version)
            return response

        async def first(_: None = None) -> Any:
            _check_tasks(request.tasks)
            return await self._held(request.tasks[0].model_spec, answer)

        return await _answered(context, first)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        async def answer(version: Loaded) -> Any:
            found = descriptions.metadata(version)
            asked = request.metadata_field
            return found if asked else get_model_metadata_pb2.GetModelMetadataResponse()

        async def first() -> Any:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            for name in request.metadata_field:
                if name != "signature_def":
                    raise invalid(f"Metadata field {name} is not supported")
            return await self._held(request.model_spec, answer)

        return await _answered(context, first)

    async def _classify(self, version: Loaded, spec: Any, examples: Any, result: Any) -> None:
        found = await self._core.inference.classify(version, spec.signature_name, examples)
        classes, scores = found.classes, found.scores
        count, width = (classes if classes is not None else scores).shape
        for row in range(count):
            added = result.classifications.add()
            for column in range(width):
                one = added.classes.add()
                if classes is not None:
                    one.label = tensors.as_bytes(classes[row, column]).decode("utf-8", "replace")
                if scores is not None:
                    one.score = scores[row, column]

    async def _regress(self, version: Loaded, spec: Any, examples: Any, result: Any) -> None:
        values = await self._core.inference.regress(version, spec.signature_name, examples)
        for value in values.tolist():
            result.regressions.add(value=value)

    def _named(self, response: Any, spec: Any, version: Loaded) -> Any:
        """A response that says which version and signature answered."""
        response.model_spec.name = version.name
        response.model_spec.version.value = version.version
        response.model_spec.signature_name = spec.signature_name or DEFAULT
        return response

    async def _held(self, spec: Any, answer: Callable[[Loaded], Awaitable[Any]]) -> Any:
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        label = spec.version_label if choice == "version_label" else None
        with self._core.models.find(spec.name, version, label).hold() as loaded:
            return await answer(loaded)

    async def _counted(
        self, api: str, spec: Any, context: Any, answer: Callable[[Loaded], Awaitable[Any]]
    ) -> Any:
        async def first() -> Any:
            seconds = context.time_remaining()
            async with self._core.request(spec.name, api, "GRPC", seconds):
                return await self._held(spec, answer)

        return await _answered(context, first)


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, core: Core):
        self._core = core

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        async def answer() -> Any:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            spec = request.model_spec
            version = spec.version.value if spec.HasField("version") else None
            return descriptions.states(self._core.models.status(spec.name, version))

        return await _answered(context, answer)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        async def answer() -> Any:
            metrics = self._core.metrics
            before = {name: metrics.total(name) for name in request.metric_names}
            try:
                configs = models_of(request.config)
            except InputError as error:
                raise invalid(str(error)) from None
            await self._core.models.apply(configs)
            response = model_management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            for name, value in before.items():
                response.metric.add(name=name, int64_value_increase=metrics.total(name) - value)
            return response

        return await _answered(context, answer)


async def _answered(context: Any, answer: Callable[[], Awaitable[Any]]) -> Any:
    """An answer, or the end of the call with the code and message of what went wrong."""
    try:
        return await answer()
    except Exception as error:
        code, message = code_of(error), cut(message_of(error))
    await context.abort(grpc.StatusCode[code], message)


def _arrays(inputs: Any) -> dict[str, Any]:
    return {name: tensors.from_proto(proto) for name, proto in inputs.items()}


def _response(outputs: Any) -> Any:
    response = predict_pb2.PredictResponse()
    for key, value in outputs.items():
        response.outputs[key].CopyFrom(tensors.to_proto(value))
    return response


def _check_tasks(tasks: Any) -> None:
    if not tasks:
        raise invalid("A MultiInferenceRequest needs tasks.")
    names, signatures = {task.model_spec.name for task in tasks}, set()
    if "" in names:
        raise invalid("Found ModelSpec with an empty model name.")
    if len(names) > 1:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    for task in tasks:
        name = task.model_spec.signature_name or DEFAULT
        if name in signatures:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signatures.add(name)


def _check_task(task: Any, version: Loaded, kinds: Any) -> None:
    name = task.model_spec.signature_name or DEFAULT
    if name not in version.signatures:
        raise invalid(f"Requested signature not found in model graph: {name}")
    if task.method_name not in kinds:
        raise ServingError(
            "UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}"
        )
    check_method(version.signatures[name], task.method_name)
