"""All that lies beside an exported model, from one description."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from kerasft._core import files
from kerasft.export.deploy import card, checksums, versions, warmup
from kerasft.export.deploy.client_files import Signatures, client_py, requests_sh
from kerasft.export.deploy.config import batching_config, models_config, monitoring_config
from kerasft.export.deploy.manifests import Deployment, compose, kubernetes
from kerasft.export.profile import PLACE as REFERENCE

FOLDER = "deploy"
# Written once and then yours; what follows from the signatures is written again by each export.
KEPT = (
    "models.config",
    "batching.config",
    "monitoring.config",
    "docker-compose.yaml",
    "kubernetes.yaml",
)


@dataclasses.dataclass(frozen=True)
class Description:
    """What is known of an exported model.

    Args:
        name: the model's name, the folder in saved_models.
        signatures: signature -> (method, {input: dtype}), in the order of the task's inputs.
        samples: input -> the value of one row, for the client and the requests.
        task: the task's name and options, as kerasft.json holds them.
        libraries: library -> version.
        run: what `read_run` gives; empty for a pipeline without a run.
        requests: warm-up requests for `write_warmup`; no file is written where there are none.
        server: what a server needs; the defaults of `Deployment` when None.
        batching: arguments of `batching_config`.
        int8: of weights in 8 bits, how many `matrices` they are, and the largest `difference` of an
            output from those of the float weights, as a share of the largest; empty otherwise.

    Raises:
        InputError: for a name or a value that a server or Kubernetes does not take. So an export
            that describes itself first fails before it has written anything.

    Example:
        >>> signatures = {"serving_default": ("predict", {"text": "string"})}
        >>> Description("spam", signatures, {"text": "free prize"}, {"name": "text-classification"})
    """

    name: str
    signatures: Signatures
    samples: Mapping[str, Any]
    task: Mapping[str, Any]
    libraries: Mapping[str, str] = dataclasses.field(default_factory=dict)
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    requests: tuple[warmup.Request, ...] = ()
    server: Deployment | None = None
    batching: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    int8: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.server is None:
            object.__setattr__(self, "server", Deployment(self.name))
        client_py(self.name, self.signatures, self.samples)
        batching_config(**self.batching)


def write_deployment(
    folder: str | os.PathLike, description: Description, version: int | None = None
) -> list[str]:
    """Write what lies beside an exported model.

    Into `folder/deploy/` (TF Serving looks at numbers alone): `models.config`, `batching.config`,
    `monitoring.config`, `docker-compose.yaml` and `kubernetes.yaml`, each only where it is not
    there yet, and `client.py` and `requests.sh`, which follow from the signatures.

    Args:
        folder: `saved_models/NAME`.
        description: what is known of the model.
        version: write what belongs to this version too (`write_extras`).

    Returns:
        The paths of the files that were written.

    Raises:
        InputError: for a warm-up request that does not fit.
        MissingExtra: for warm-up requests without tensorflow-serving-api.
    """
    given, written = description, []
    if version is not None:
        written += write_extras(files.join(folder, str(version)), given, version)
    texts = {
        "models.config": versions.PLAIN_HEAD + models_config(given.name, f"/models/{given.name}"),
        "batching.config": batching_config(**given.batching),
        "monitoring.config": monitoring_config(),
        "docker-compose.yaml": compose(given.server),
        "kubernetes.yaml": kubernetes(given.server),
        "client.py": client_py(given.name, given.signatures, given.samples),
        "requests.sh": requests_sh(given.name, given.signatures, given.samples),
    }
    for name, text in texts.items():
        path = files.join(folder, FOLDER, name)
        if name in KEPT and files.exists(path):
            continue
        files.write_text(path, text)
        written.append(path)
    return written


def write_extras(
    place: str | os.PathLike, description: Description, version: int | None = None
) -> list[str]:
    """Write what belongs to one version into its `assets.extra`.

    The warm-up requests (checked once more as they were written), `metrics.json`,
    `reference.json` (what a monitor compares with), `model_card.md`, and at the end
    `checksums.txt` over all files of the version.

    Args:
        place: the version's folder, which may still have another name.
        description: what is known of the model.
        version: its number, for the card.

    Returns:
        The paths of the files that were written.

    Raises:
        InputError, MissingExtra: as `write_deployment`.
    """
    written = []
    if description.requests:
        written.append(warmup.write_warmup(place, description.requests))
        warmup.read_warmup(place)
    scores = (description.run.get("report") or {}).get("after")
    if scores:
        written.append(files.join(place, versions.METRICS))
        files.write_json(written[-1], scores)
    if description.run.get("reference"):
        written.append(files.join(place, REFERENCE))
        files.write_json(written[-1], description.run["reference"])
    given = description
    told = card.model_card(
        given.name, given.task, given.libraries, given.run, version, int8=given.int8
    )
    written.append(files.join(place, card.PLACE))
    files.write_text(written[-1], told)
    written.append(checksums.write_checksums(place))
    return written
