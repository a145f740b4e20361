"""What is known of an export, for all that lies beside it (`export/deploy`)."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from kerasft._core import stack
from kerasft.export.compare import probes
from kerasft.export.deploy.card import read_run
from kerasft.export.deploy.signatures import read_signatures
from kerasft.export.deploy.write import Description
from kerasft.tasks import registry

# How a text is written, for the sample of a request: `generate` takes all of them.
_OPTIONS = {"max_new_tokens": 32, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "seed": 1}
_WARM = 2  # requests of each signature


def describe(
    pipe: Any,
    name: str,
    folder: str,
    records: list[dict[str, Any]],
    adapters: Any = None,
    run: Any = None,
    int8: Mapping[str, Any] | None = None,
) -> Description:
    """What a client, a server and a model card have to know.

    Args:
        pipe: the pipeline that was exported.
        name: the model's name.
        folder: the version's folder, with its SavedModel.
        records: its golden records. They are the warm-up requests, where tensorflow-serving-api is
            installed.
        adapters: several adapters on the pipeline's base (`kerasft.AdapterSet`).
        run: the run folder that the pipeline comes from, for data and scores.
        int8: of weights in 8 bits, as `Description` has it.
    """
    task = adapters.task if adapters else pipe.task
    found = read_signatures(folder)
    first = {field: values[0] for field, values in probes(task).items()}
    if adapters:
        first["adapter"] = adapters.names[0]
    order = list(first)
    signatures = {
        signature: (
            known.method,
            {n: known.inputs[n].dtype for n in sorted(known.inputs, key=_place(order))},
        )
        for signature, known in found.items()
    }
    told = read_run(run) if run else {}
    if adapters:
        told.pop("reference", None)  # each adapter learned from data of its own
    samples = first | (_OPTIONS if "generate" in signatures else {})
    return Description(
        name,
        signatures,
        {n: list(v) if isinstance(v, tuple) else v for n, v in samples.items()},
        registry.config(task),
        stack.versions(),
        told,
        tuple(_warm_up(found, records)) if importlib.util.find_spec("tensorflow_serving") else (),
        int8=int8 or {},
    )


def _place(order: list[str]) -> Any:
    return lambda name: (order.index(name) if name in order else len(order), name)


def _warm_up(signatures: dict[str, Any], records: list[dict[str, Any]]) -> list[tuple]:
    """The first records of each signature as requests."""
    found = []
    for name, known in signatures.items():
        for record in [r for r in records if r["signature"] == name][:_WARM]:
            inputs = record["inputs"]
            if known.method != "predict":
                inputs = [_features(example) for example in inputs["inputs"]]
            found.append((name, known.method, inputs))
    return found


def _features(example: bytes) -> dict[str, list]:
    from tensorflow.train import Example

    features = Example.FromString(example).features.feature
    return {n: list(getattr(f, f.WhichOneof("kind")).value) for n, f in features.items()}
