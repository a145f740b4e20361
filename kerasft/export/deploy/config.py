"""Texts of TF Serving's configuration files, and what stands in them."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.export.deploy import _messages

PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"
_LABEL = re.compile(r"[A-Za-z0-9_]+")


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One model of a `models.config`.

    Args:
        name: the model's name in requests.
        base_path: where the server finds the folder with the numbered versions.
        policy: which versions are loaded: "latest", the number of latest ones, "all", or a tuple
            of versions.
        labels: label -> version.
    """

    name: str
    base_path: str
    policy: str | int | tuple[int, ...] = "latest"
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        name_of_model(self.name)
        if not (isinstance(self.base_path, str) and self.base_path):
            raise InputError(f"`base_path` must be a path. Received: {self.base_path!r}.")
        object.__setattr__(self, "policy", _policy(self.policy))
        for label, version in self.labels.items():
            name_of_label(label)
            whole(f"label {label}", version, 0)
            if isinstance(self.policy, tuple) and version not in self.policy:
                raise InputError(
                    f"A label must be on a version that is loaded: {_listed(self.policy)}. "
                    f"Received: {label}={version}."
                )


def models_config(
    name: str,
    base_path: str,
    policy: str | int | Iterable[int] = "latest",
    labels: Mapping[str, int] | None = None,
) -> str:
    """The text of a `models.config` for one model.

    Args:
        name: the model's name in requests.
        base_path: the folder with the numbered versions, as the server sees it.
        policy: "latest", the number of latest versions, "all", or the versions to load.
        labels: label -> version; a server takes a label at its start only with
            `--allow_version_labels_for_unavailable_models=true`.

    Returns:
        A `ModelServerConfig` in text form.

    Raises:
        InputError: for a name, a policy or a label that TF Serving does not take.

    Example:
        >>> models_config("spam", "/models/spam", (3, 4), {"stable": 3})

    Source: tensorflow_serving/config/model_server_config.proto
    """
    return write_models_config([ServedModel(name, base_path, policy, dict(labels or {}))])


def write_models_config(models: Iterable[ServedModel]) -> str:
    """The text of a `models.config` for several models; `read_models_config` gives them back."""
    config = _messages.new("ModelServerConfig")
    for model in models:
        made = config.model_config_list.config.add(
            name=model.name, base_path=model.base_path, model_platform=PLATFORM
        )
        policy = made.model_version_policy
        if isinstance(model.policy, tuple):
            policy.specific.versions.extend(model.policy)
        elif model.policy == "all":
            policy.all.SetInParent()
        else:
            policy.latest.num_versions = 1 if model.policy == "latest" else model.policy
        for label, version in model.labels.items():
            made.version_labels[label] = version
    return _messages.to_text(config)


def read_models_config(text: str, told: str = "models.config") -> tuple[ServedModel, ...]:
    """The models of a `models.config`, in order.

    Args:
        text: the text of the file.
        told: what to call it in an error.

    Raises:
        InputError: if it is no such text, or says what TF Serving refuses.
    """
    config = _messages.from_text("ModelServerConfig", text, told)
    found = []
    for model in config.model_config_list.config:
        if model.model_platform != PLATFORM:
            raise InputError(
                f"{told}: `model_platform` of {model.name!r} must be {PLATFORM!r}. "
                f"Received: {model.model_platform!r}."
            )
        labels = dict(sorted(model.version_labels.items()))
        found.append(ServedModel(model.name, model.base_path, _read_policy(model), labels))
    return tuple(found)


def _read_policy(model: Any) -> str | int | tuple[int, ...]:
    choice = model.model_version_policy.WhichOneof("policy_choice")
    if choice == "specific":
        return tuple(model.model_version_policy.specific.versions)
    if choice == "all":
        return "all"
    return max(model.model_version_policy.latest.num_versions, 1)


def _policy(given: Any) -> str | int | tuple[int, ...]:
    """A policy in the one form that each has; the order of versions says nothing."""
    if isinstance(given, str) and given in ("latest", "all"):
        return given
    if isinstance(given, int):
        return "latest" if whole("policy", given, 1) == 1 else given
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(
            "`policy` must be 'latest', 'all', the number of latest versions, or the versions to "
            f"load. Received: {given!r}."
        )
    versions = tuple(sorted({whole("policy", version, 0) for version in given}))
    if not versions:
        raise InputError("`policy` names no version: a model must serve one. Received: ().")
    return versions


def batching_config(
    max_batch_size: int = 32,
    batch_timeout_micros: int = 1000,
    max_enqueued_batches: int = 100,
    num_batch_threads: int = 4,
    allowed_batch_sizes: Iterable[int] | None = None,
    pad_variable_length_inputs: bool = False,
) -> str:
    """The text of a `batching.config`: requests of several clients run as one batch.

    Args:
        max_batch_size: rows of the largest batch.
        batch_timeout_micros: how long a row waits for others, in microseconds.
        max_enqueued_batches: batches that may wait; more are answered 429 or UNAVAILABLE.
        num_batch_threads: batches that run at once, about the CPU cores.
        allowed_batch_sizes: sizes that a batch is filled up to, rising to `max_batch_size`; the
            powers of two below it when None.
        pad_variable_length_inputs: fill inputs of unlike length up with their own first value.
            Ids and lists of labels are then answered wrongly, since that value means something;
            without it such requests are refused when they meet, which is why False stands here.

    Returns:
        `BatchingParameters` in text form.

    Raises:
        InputError: for numbers that TF Serving refuses.

    Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    """
    numbers = {
        "max_batch_size": whole("max_batch_size", max_batch_size, 1),
        "batch_timeout_micros": whole("batch_timeout_micros", batch_timeout_micros, 0),
        "max_enqueued_batches": whole("max_enqueued_batches", max_enqueued_batches, 1),
        "num_batch_threads": whole("num_batch_threads", num_batch_threads, 1),
    }
    if allowed_batch_sizes is None:
        powers = (2**i for i in range(max_batch_size.bit_length()))
        allowed_batch_sizes = sorted({n for n in powers if n < max_batch_size} | {max_batch_size})
    sizes = list(allowed_batch_sizes)
    message = _messages.new("BatchingParameters")
    for name, value in numbers.items():
        getattr(message, name).value = value
    message.allowed_batch_sizes.extend(whole("allowed_batch_sizes", n, 1) for n in sizes)
    message.pad_variable_length_inputs = pad_variable_length_inputs
    _check_sizes(sizes, max_batch_size, "allowed_batch_sizes")
    return _messages.to_text(message)


def read_batching_config(text: str, told: str = "batching.config") -> dict[str, Any]:
    """What a `batching.config` says, by field; fields that it leaves out are left out.

    Raises:
        InputError: for a field that TF Serving does not have, or sizes that it refuses.
    """
    message = _messages.from_text("BatchingParameters", text, told)
    found = {}
    for field, value in message.ListFields():
        plain = value.value if field.message_type else value
        found[field.name] = list(plain) if field.name == "allowed_batch_sizes" else plain
    if sizes := found.get("allowed_batch_sizes"):
        _check_sizes(sizes, found.get("max_batch_size", sizes[-1]), told)
    return found


def _check_sizes(sizes: list[int], most: int, told: str) -> None:
    rising = all(a < b for a, b in zip(sizes, sizes[1:], strict=False))
    if sizes and not (rising and sizes[-1] == most):
        raise InputError(
            f"{told}: the allowed batch sizes must rise, and end with max_batch_size={most}. "
            f"Received: {_listed(sizes)}."
        )


def monitoring_config(path: str = METRICS_PATH) -> str:
    """The text of a `monitoring.config`: metrics for Prometheus on the REST port.

    Args:
        path: where they are asked for; begins with "/".

    Source: tensorflow_serving/config/monitoring_config.proto
    """
    if not (isinstance(path, str) and path.startswith("/")):
        raise InputError(f"`path` must begin with '/'. Received: {path!r}.")
    message = _messages.new("MonitoringConfig")
    message.prometheus_config.enable = True
    message.prometheus_config.path = path
    return _messages.to_text(message)


def read_monitoring_config(text: str, told: str = "monitoring.config") -> str | None:
    """The path of the metrics that a `monitoring.config` names; None where they are off."""
    found = _messages.from_text("MonitoringConfig", text, told).prometheus_config
    return (found.path or METRICS_PATH) if found.enable else None


def name_of_model(name: Any) -> str:
    """The name, if it can stand in a request's path; else `InputError`."""
    if isinstance(name, str) and name and not re.search(r"[/:\s%?#\"'\\]", name):
        return name
    raise InputError(
        "A model's name stands in the path of a request: no blanks, none of / : % ? # \" ' \\. "
        f"Received: {name!r}."
    )


def name_of_label(label: Any) -> str:
    """The label, if TF Serving takes it in a request's path; else `InputError`."""
    if isinstance(label, str) and _LABEL.fullmatch(label):
        return label
    raise InputError(
        "A label is one word of letters a-z, digits and '_', such as stable or canary. "
        f"Received: {label!r}."
    )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
