"""What both doors do with a request: find the version, check the inputs, run, check the outputs.

Messages and codes are TF Serving's, which differ a little between REST and gRPC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasft.serving.errors import ServingError, invalid
from kerasft.serving.json_form import DEFAULT
from kerasft.serving.metrics import Metrics
from kerasft.serving.tensors import dtype_of
from kerasft.serving.versions import Loaded

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


@dataclass(frozen=True)
class Classified:
    """Classes and their scores, [batch, classes]; one of them may be None."""

    classes: np.ndarray | None
    scores: np.ndarray | None


class Inference:
    """Runs requests on a version that the caller holds.

    Args:
        metrics: counts.
        log: takes what `serving_default`, Classify and Regress answered; None for nobody.
        most_rows: rows of a request; one of more is refused (INVALID_ARGUMENT).
    """

    def __init__(self, metrics: Metrics, log: Any = None, most_rows: int = 10_000):
        self._metrics, self._log, self._most_rows = metrics, log, most_rows

    async def predict(
        self,
        version: Loaded,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        only: Sequence[str] = (),
        api: str = "Predict",
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature.

        Args:
            version: that is held.
            signature: its name, "" for `serving_default`.
            inputs: arrays by the signature's names.
            only: outputs to give; all where empty.
            api: as the metrics name it.

        Raises:
            ServingError: as TF Serving.
        """
        name = signature or DEFAULT
        if name not in version.signatures:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        found = version.signatures[name]
        _check_names(inputs, found.inputs)
        for key, spec in found.inputs.items():
            _check_input(key, inputs[key], spec)
        _check_filter(only, found.outputs)
        outputs = await self._run(version, name, inputs, api)
        return {key: outputs[key] for key in (only or found.outputs)}

    async def classify(self, version: Loaded, signature: str, examples: np.ndarray) -> Classified:
        """Classes of serialised tf.Examples, string [batch].

        Raises:
            ServingError: as TF Serving.
        """
        name, outputs = await self._of_examples(version, signature, CLASSIFY, examples, "Classify")
        return _classified(version.signatures[name], outputs, len(examples))

    async def regress(self, version: Loaded, signature: str, examples: np.ndarray) -> np.ndarray:
        """Numbers of serialised tf.Examples: float32 [batch].

        Raises:
            ServingError: as TF Serving.
        """
        _, outputs = await self._of_examples(version, signature, REGRESS, examples, "Regress")
        return _regressed(outputs["outputs"], len(examples))

    async def _of_examples(
        self, version: Loaded, signature: str, method: str, examples: np.ndarray, api: str
    ) -> tuple[str, dict[str, np.ndarray]]:
        name = signature or DEFAULT
        if name not in version.signatures:
            raise invalid(f"No signature was found with the name: {name}")
        check_method(version.signatures[name], method)
        self._metrics.examples(version.name, len(examples))
        return name, await self._run(version, name, {"inputs": examples}, api)

    async def _run(
        self, version: Loaded, name: str, inputs: Mapping[str, np.ndarray], api: str
    ) -> dict[str, np.ndarray]:
        check_rows(inputs, self._most_rows)
        outputs, seconds = await version.run(name, inputs)
        self._metrics.ran(version.name, api, seconds)
        lost = set(version.signatures[name].outputs) - set(outputs)
        if lost:
            raise ServingError("INTERNAL", f"The model gave no output {sorted(lost)[0]}")
        examples = api in ("Classify", "Regress")
        if self._log is not None and (name == DEFAULT or examples):
            self._log.offer(version, inputs, outputs, examples)
        return outputs


def check_rows(inputs: Mapping[str, np.ndarray], most: int) -> None:
    """Refuse a request of too many rows: each takes the model far more memory than its bytes.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    rows = max((len(value) for value in inputs.values() if value.ndim), default=0)
    if rows > most:
        raise invalid(
            f"A request has at most {most} rows. Received: {rows}. Send the rows in several "
            "requests."
        )


def check_method(signature: Any, method: str) -> None:
    """A signature for Classify or Regress.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    word = "classification" if method == CLASSIFY else "regression"
    if signature.method != method:
        raise invalid(
            f"Expected {word} signature method_name to be {method}. Was: {signature.method}"
        )
    if list(signature.inputs) != ["inputs"]:
        raise invalid(f"No {word} inputs found in SignatureDef: {sorted(signature.inputs)}")
    names = {"classes", "scores"} if method == CLASSIFY else {"outputs"}
    if not signature.outputs or not set(signature.outputs) <= names:
        raise invalid(
            f"Expected {word} signature outputs to be of {sorted(names)}. "
            f"Signature was: {sorted(signature.outputs)}"
        )


def _check_names(inputs: Mapping[str, Any], specs: Mapping[str, Any]) -> None:
    sent, asked = sorted(inputs), sorted(specs)
    if sent != asked:
        extra, missing = sorted(set(sent) - set(asked)), sorted(set(asked) - set(sent))
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(asked)} "
            f"len({{{','.join(sent)}}}) != len({{{','.join(asked)}}}). Sent extra: "
            f"{{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )


def _check_input(name: str, value: np.ndarray, spec: Any) -> None:
    """The dtype, and the shape as far as it is known: a batch holds rows of several clients."""
    if dtype_of(value) != spec.dtype:
        raise invalid(f"Input {name} expects {spec.dtype}. Received: {dtype_of(value)}.")
    if spec.shape is None:  # any rank
        return
    fits = value.ndim == len(spec.shape) and all(
        size is None or size == have for size, have in zip(spec.shape, value.shape)
    )
    if not fits:
        shown = ["?" if size is None else size for size in spec.shape]
        raise invalid(f"Input {name} expects shape {shown}. Received: {list(value.shape)}.")


def _check_filter(only: Sequence[str], specs: Mapping[str, Any]) -> None:
    for i, name in enumerate(only):
        if name not in specs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the "
                f"set {{{','.join(sorted(specs))}}}."
            )
        if name in only[:i]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _classified(signature: Any, outputs: Mapping[str, np.ndarray], count: int) -> Classified:
    kinds = {"classes": "string", "scores": "float32"}
    found = {}
    for name in signature.outputs:
        value = outputs[name]
        if value.ndim != 2:
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {list(value.shape)}"
            )
        if dtype_of(value) != kinds[name]:
            raise invalid(f"Expected {name} Tensor of {kinds[name]}. Got: {dtype_of(value)}")
        if len(value) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(value)}")
        found[name] = value
    widths = [value.shape[1] for value in found.values()]
    if len(set(widths)) > 1:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    return Classified(found.get("classes"), found.get("scores"))


def _regressed(values: np.ndarray, count: int) -> np.ndarray:
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(values.shape)}"
        )
    if len(values) != count:
        raise invalid(
            f"Input batch size did not match output batch size: {count} vs. {len(values)}"
        )
    if dtype_of(values) != "float32":
        raise invalid(f"Expected output Tensor of float32. Got: {dtype_of(values)}")
    return values.reshape(-1)
