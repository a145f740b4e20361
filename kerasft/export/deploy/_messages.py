"""TF Serving's configuration messages: their text form, written and read by protobuf itself.

Only some of them are in tensorflow-serving-api, and a model has to be deployable without that
package. So their fields stand here, with the numbers of TF Serving's .proto files, in a pool of
their own that does not meet the package's; the tests compare them with the package where it has
them.
"""

import functools
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from kerasft._core.errors import InputError

PACKAGE = "tensorflow.serving"
_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
# Message -> field -> (number, type). A type in capitals is a message; "*" before it: repeated.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList")},
    "ModelConfigList": {"config": (1, "*ModelConfig")},
    "ModelConfig": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_platform": (4, "string"),
        "model_version_policy": (7, _POLICY),
        "version_labels": (8, "*ModelConfig.VersionLabelsEntry"),
    },
    "ModelConfig.VersionLabelsEntry": {"key": (1, "string"), "value": (2, "int64")},
    "FileSystemStoragePathSourceConfig": {},
    _POLICY: {
        "latest": (100, f"{_POLICY}.Latest"),
        "all": (101, f"{_POLICY}.All"),
        "specific": (102, f"{_POLICY}.Specific"),
    },
    f"{_POLICY}.Latest": {"num_versions": (1, "uint32")},
    f"{_POLICY}.All": {},
    f"{_POLICY}.Specific": {"versions": (1, "*int64")},
    "BatchingParameters": {
        "max_batch_size": (1, "google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, "google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, "google.protobuf.Int64Value"),
        "num_batch_threads": (4, "google.protobuf.Int64Value"),
        "thread_pool_name": (5, "google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "*int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, "google.protobuf.Int64Value"),
    },
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
}
_ONEOFS = {"ModelServerConfig": "config", _POLICY: "policy_choice"}
_SCALARS = {"string": 9, "int64": 3, "uint32": 13, "bool": 8}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


def new(name: str) -> Any:
    """An empty message, by its name in TF Serving."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))()


def to_text(message: Any) -> str:
    """The text form, as TF Serving reads it from a file."""
    return text_format.MessageToString(message)


def from_text(name: str, text: str, told: str) -> Any:
    """Read the text form.

    Args:
        name: name of the message.
        text: the text; comments after # are left out.
        told: what the text is called in the error, a file as a rule.

    Raises:
        InputError: if it is not a text form of this message, with line and column.
    """
    message = new(name)
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        fields = ", ".join(MESSAGES[name])
        raise InputError(
            f"{told} must be a {name} of TF Serving in text form, with fields of: {fields}. "
            f"Received, at line:column {error}"
        ) from None


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="kerasft/serving_config.proto", package=PACKAGE, syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    made: dict[str, Any] = {}
    for name, fields in MESSAGES.items():
        outer, _, own = name.rpartition(".")
        added = made[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        made[name] = added
        added.options.map_entry = name.endswith("Entry")
        if name in _ONEOFS:
            added.oneof_decl.add(name=_ONEOFS[name])
        for field, (number, kind) in fields.items():
            label = _REPEATED if kind.startswith("*") else _OPTIONAL
            spec = added.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            spec.type = _SCALARS.get(kind, _MESSAGE)
            if spec.type == _MESSAGE:
                spec.type_name = "." + (kind if kind.startswith("google.") else f"{PACKAGE}.{kind}")
            if name in _ONEOFS:
                spec.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool
