"""What is served and how: TF Serving's text files, or one folder `saved_models/NAME`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.serving._protos import ModelServerConfig

METRICS_PATH = "/monitoring/prometheus/metrics"
_PLATFORM = "tensorflow"


@dataclass(frozen=True)
class ModelConfig:
    """One model and which of its versions are served.

    Args:
        name: as requests name it.
        base_path: the folder that holds the versions 1, 2, ...
        policy: "latest", "all" or "specific".
        versions: how many are served for "latest", which ones for "specific".
        labels: label -> version.
    """

    name: str
    base_path: str
    policy: str = "latest"
    versions: int | tuple[int, ...] = 1
    labels: Mapping[str, int] = field(default_factory=dict)

    def wanted(self, there: list[int]) -> list[int]:
        """The versions to serve of those that are there, in order."""
        if self.policy == "latest":
            return sorted(there)[-self.versions :]
        if self.policy == "specific":
            return sorted(set(there) & set(self.versions))
        return sorted(there)


@dataclass(frozen=True)
class Batching:
    """How requests are put together; the names and defaults are TF Serving's.

    Args:
        max_batch_size: rows a batch.
        batch_timeout_micros: how long a batch waits for more rows, while a thread is free.
        max_enqueued_batches: batches that may wait; a request beyond is refused (UNAVAILABLE).
        num_batch_threads: batches that run at a time.
        allowed_batch_sizes: sizes a batch is filled up to, by its last row; the last is
            `max_batch_size`. Empty: any size.
        pad_variable_length_inputs: rows of unlike length share a batch, filled up by the first
            value of their request.
        enable_large_batch_splitting: a request of more rows than `max_batch_size` is divided.
        max_execution_batch_size: rows a batch, where requests are divided.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self):
        least = {
            "max_batch_size": 1,
            "batch_timeout_micros": 0,
            "max_enqueued_batches": 1,
            "num_batch_threads": 1,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InputError(
                    f"{name} is a whole number from {bound}. Received: {getattr(self, name)}."
                )
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.most):
            raise InputError(
                "allowed_batch_sizes grow, and the last one is the largest batch, "
                f"{self.most}. Received: {list(sizes)}."
            )
        if self.max_execution_batch_size is not None and not (
            1 <= self.max_execution_batch_size <= self.max_batch_size
        ):
            raise InputError(
                f"max_execution_batch_size is from 1 to max_batch_size, {self.max_batch_size}. "
                f"Received: {self.max_execution_batch_size}."
            )

    @property
    def most(self) -> int:
        """The most rows of a batch that is run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size

    def filled(self, rows: int) -> int:
        """The size that a batch of so many rows is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def single(folder: str | os.PathLike, name: str | None = None) -> tuple[ModelConfig]:
    """Serve one folder: the versions and labels that `kerasft versions` chose, or the newest.

    They stand in `deploy/models.config`, whose base_path, the server's there, is not looked at.

    Args:
        folder: `saved_models/NAME`, which holds the versions.
        name: as requests name it; NAME when None.

    Raises:
        InputError: if there is no such folder, or its models.config is none.

    Example:
        single("saved_models/spam")
    """
    path = os.fspath(folder)
    if files.is_remote(path):
        raise InputError(f"Only local folders are served here. Copy it first. Received: {path}.")
    if not Path(path).is_dir():
        raise InputError(f"There is no folder {path}. Write one with: kerasft export RUN {path}")
    absolute = Path(path).resolve()
    chosen = absolute / "deploy" / "models.config"
    known = read_models(chosen) if chosen.is_file() else ()
    config = known[0] if len(known) == 1 else ModelConfig(absolute.name, str(absolute))
    return checked((replace(config, name=name or absolute.name, base_path=str(absolute)),))


def read_models(path: str | os.PathLike) -> tuple[ModelConfig, ...]:
    """Read TF Serving's models.config (`ModelServerConfig` as text).

    Raises:
        InputError: if it is not there, not of that form, or asks for what no TF Serving serves.
    """
    return models_of(_parsed(path, ModelServerConfig()), os.fspath(path))


def models_of(message: Any, source: str = "the request") -> tuple[ModelConfig, ...]:
    """The models of a `ModelServerConfig`.

    Raises:
        InputError: as `read_models`.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise InputError(f"{source} needs a model_config_list. Received: none.")
    found = []
    for one in message.model_config_list.config:
        platform = one.model_platform or ("" if one.model_type != 1 else _PLATFORM)
        if platform != _PLATFORM:
            raise InputError(
                f'Model {one.name!r} needs model_platform: "{_PLATFORM}". Received: {platform!r}.'
            )
        if not os.path.isabs(one.base_path):
            raise InputError(
                f"Model {one.name!r} needs an absolute, local base_path, as in TF Serving. "
                f"Received: {one.base_path!r}."
            )
        found.append(
            ModelConfig(one.name, one.base_path, *_policy_of(one), dict(one.version_labels))
        )
    return checked(tuple(found))


def _policy_of(one: Any) -> tuple[str, int | tuple[int, ...]]:
    policy = one.model_version_policy
    kind = policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        if not policy.specific.versions:
            raise InputError(f"Model {one.name!r} needs versions for `specific`. Received: none.")
        return kind, tuple(policy.specific.versions)
    return kind, (policy.latest.num_versions or 1) if kind == "latest" else 0


def checked(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
    """Names that requests can say, each once."""
    if not models:
        raise InputError("A config names at least one model. Received: none.")
    seen = set()
    for model in models:
        if not model.name or set(model.name) & set("/:"):
            raise InputError(f"A model's name has letters but no / or :. Received: {model.name!r}.")
        if model.name in seen:
            raise InputError(f"A model is listed once. Received: {model.name!r} twice.")
        seen.add(model.name)
    return models


def read_batching(path: str | os.PathLike) -> Batching:
    """Read TF Serving's batching.config (`BatchingParameters` as text).

    Raises:
        InputError: if it is not there, or not of that form.
    """
    message = _parsed(path, _MESSAGES["BatchingParameters"]())
    given = {f.name: value for f, value in message.ListFields() if f.name != "thread_pool_name"}
    plain = {name: getattr(value, "value", value) for name, value in given.items()}
    if "allowed_batch_sizes" in plain:
        plain["allowed_batch_sizes"] = tuple(plain["allowed_batch_sizes"])
    return Batching(**plain)


def read_monitoring(path: str | os.PathLike) -> str | None:
    """Read TF Serving's monitoring.config: the path of the metrics, None where they are off.

    Raises:
        InputError: if it is not there, or not of that form.
    """
    prometheus = _parsed(path, _MESSAGES["MonitoringConfig"]()).prometheus_config
    if not prometheus.enable:
        return None
    place = prometheus.path or METRICS_PATH
    if not place.startswith("/") or place.lower().startswith("/v1/"):
        raise InputError(f"The metrics' path begins with /, not with /v1/. Received: {place!r}.")
    return place


def _parsed(path: str | os.PathLike, message: Any) -> Any:
    """A text file as a message."""
    try:
        text = files.read_bytes(path).decode("utf-8")
        return text_format.Parse(text, message)
    except FileNotFoundError:
        raise InputError(f"There is no file {os.fspath(path)}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        what = message.DESCRIPTOR.name
        raise InputError(f"{os.fspath(path)} is not a {what} as text: {error}.") from None


def _built() -> dict[str, Any]:
    """The two messages that tensorflow-serving-api leaves out, with TF Serving's own numbers."""
    field_of = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="kerasft/serving/config.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    wrapped = {"max_batch_size": 1, "batch_timeout_micros": 2, "max_enqueued_batches": 3}
    wrapped |= {"num_batch_threads": 4, "max_execution_batch_size": 9}

    def add(message: Any, name: str, number: int, kind: int, type_name: str = "", many=False):
        label = field_of.LABEL_REPEATED if many else field_of.LABEL_OPTIONAL
        made = message.field.add(name=name, number=number, type=kind, label=label)
        if type_name:
            made.type_name = type_name

    batching = file.message_type.add(name="BatchingParameters")
    for name, number in wrapped.items():
        add(batching, name, number, field_of.TYPE_MESSAGE, ".google.protobuf.Int64Value")
    add(batching, "thread_pool_name", 5, field_of.TYPE_MESSAGE, ".google.protobuf.StringValue")
    add(batching, "allowed_batch_sizes", 6, field_of.TYPE_INT64, many=True)
    add(batching, "pad_variable_length_inputs", 7, field_of.TYPE_BOOL)
    splitting = "enable_large_batch_splitting"
    add(batching, splitting, 8, field_of.TYPE_MESSAGE, ".google.protobuf.BoolValue")
    prometheus = file.message_type.add(name="PrometheusConfig")
    add(prometheus, "enable", 1, field_of.TYPE_BOOL)
    add(prometheus, "path", 2, field_of.TYPE_STRING)
    monitoring = file.message_type.add(name="MonitoringConfig")
    inner = ".tensorflow.serving.PrometheusConfig"
    add(monitoring, "prometheus_config", 1, field_of.TYPE_MESSAGE, inner)

    pool = descriptor_pool.DescriptorPool()
    shared = descriptor_pb2.FileDescriptorProto()
    wrappers.DESCRIPTOR.CopyToProto(shared)
    pool.Add(shared)
    pool.Add(file)
    names = ("BatchingParameters", "MonitoringConfig")
    found = {n: pool.FindMessageTypeByName(f"tensorflow.serving.{n}") for n in names}
    return {name: message_factory.GetMessageClass(found[name]) for name in names}


_MESSAGES = _built()
