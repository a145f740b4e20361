"""What the server says of itself, as TF Serving does: signatures and the states of versions."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from kerasft.serving._protos import SignatureDef, get_model_metadata_pb2, get_model_status_pb2
from kerasft.serving.errors import number
from kerasft.serving.tensors import data_type
from kerasft.serving.versions import Loaded, Status


def metadata(version: Loaded) -> Any:
    """A GetModelMetadataResponse with the signatures of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = version.name
    response.model_spec.version.value = version.version
    response.metadata["signature_def"].Pack(_signatures(version))
    return response


def metadata_json(response: Any) -> bytes:
    """A GetModelMetadataResponse as JSON."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return _body(
        f'{{\n"model_spec":{_json(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {_json(signatures)}}}\n}}'
    )


def states(found: Mapping[int, Status]) -> Any:
    """A GetModelStatusResponse."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, status in found.items():
        added = response.model_version_status.add(version=version, state=status.state)
        added.status.SetInParent()  # also where all is well, so that JSON shows it
        added.status.error_code = number(status.code)
        added.status.error_message = status.message
    return response


def states_json(response: Any) -> bytes:
    """A GetModelStatusResponse as JSON."""
    return _body(_json(response))


def _signatures(version: Loaded) -> Any:
    made = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in version.signatures.items():
        one = SignatureDef(method_name=signature.method)
        for sent, found in ((one.inputs, signature.inputs), (one.outputs, signature.outputs)):
            for key, spec in found.items():
                info = sent[key]
                info.name = getattr(spec, "tensor", "") or key
                info.dtype = data_type(spec.dtype)
                info.tensor_shape.unknown_rank = spec.shape is None
                for size in spec.shape or ():
                    info.tensor_shape.dim.add(size=-1 if size is None else size)
        made.signature_def[name].CopyFrom(one)
    return made


def _json(message: Any) -> str:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _body(text: str) -> bytes:
    return (text + "\n").encode("utf-8")
