"""TF Serving as a container: a compose file, and Kubernetes manifests."""

import contextlib
import dataclasses
import re
from typing import Any

import yaml

from kerasft._core.checks import whole
from kerasft._core.errors import InputError
from kerasft.export.deploy.config import METRICS_PATH, name_of_model

IMAGE = "tensorflow/serving:2.20.0"
GRPC, REST = 8500, 8501
POLL_SECONDS = 30
USER = 1000
_DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CPU = re.compile(r"([1-9][0-9]*(\.[0-9]+)?|0?\.[0-9]*[1-9][0-9]*|[1-9][0-9]*m)")
_MEMORY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti)")


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What a server needs.

    Args:
        name: the model's name, the folder in saved_models.
        image: the container image. Its TensorFlow has to know the ops of the export.
        replicas: servers that run at least.
        max_replicas: servers that run at most, where the load asks for them; four times the least
            when None.
        cpu: CPU cores of a server, in Kubernetes' form: "2", "0.5", "500m".
        memory: its memory, in Kubernetes' form: "4Gi". The versions that are loaded lie in it.
        claim: the PersistentVolumeClaim that holds the model's folder; NAME-model when None.
    """

    name: str
    image: str = IMAGE
    replicas: int = 1
    max_replicas: int | None = None
    cpu: str = "2"
    memory: str = "4Gi"
    claim: str | None = None

    def __post_init__(self):
        name_of_model(self.name)
        # A Service's name has at most 63 signs, and a claim's is longer than the model's.
        object.__setattr__(self, "claim", dns_name(self.claim or f"{dns_name(self.name)}-model"))
        if not (isinstance(self.image, str) and re.fullmatch(r"[\w./:@-]+", self.image)):
            raise InputError(f"`image` must be a container image. Received: {self.image!r}.")
        whole("replicas", self.replicas, 1)
        most = 4 * self.replicas if self.max_replicas is None else self.max_replicas
        object.__setattr__(self, "max_replicas", whole("max_replicas", most, self.replicas))
        for field, form, like in (("cpu", _CPU, "2, 0.5 or 500m"), ("memory", _MEMORY, "4Gi")):
            value = getattr(self, field)
            if not (isinstance(value, str) and form.fullmatch(value)):
                raise InputError(f"`{field}` must be like {like}. Received: {field}={value!r}.")


def dns_name(name: str) -> str:
    """A name as Kubernetes takes it (DNS-1123): small letters, digits and "-", at most 63 signs.

    A Service's name begins with a letter too, so "model-" is put before a digit. Other letters than
    a-z are written as in the names of hosts (IDNA).

    Raises:
        InputError: for a name that has no such form: blanks, other signs, or too long.

    Example:
        >>> dns_name("Spam_v2")
        'spam-v2'
    """
    found = re.sub(r"[._-]+", "-", str(name).lower()).strip("-")
    found = f"model-{found}" if found[:1].isdigit() else found
    with contextlib.suppress(UnicodeError):  # what has no such form is refused below
        found = found.encode("idna").decode()
    if _DNS.fullmatch(found):
        return found
    raise InputError(
        "Kubernetes takes names of a-z, 0-9 and '-', at most 63 signs ('_', '.' and capitals are "
        f"turned into those). Received: {name!r}. Name the model otherwise."
    )


def flags(name: str) -> list[str]:
    """The arguments of `tensorflow_model_server` for a folder mounted at /models/NAME."""
    place = f"/models/{name}/deploy"
    return [
        f"--model_config_file={place}/models.config",
        f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_batching=true",
        f"--batching_parameters_file={place}/batching.config",
        f"--monitoring_config_file={place}/monitoring.config",
    ]


_FLAGS_TOLD = f"""\
# models.config is read again every {POLL_SECONDS} seconds: `kerasft versions` changes labels of a
# server that runs. So the folder is mounted, not the file: a file would stay the old one.
# Without --allow_version_labels_for_unavailable_models a server does not start on a models.config
# with labels, since no version is loaded at its start. The flag lets a label that is new name a
# version that is not loaded; a label that moves still has to go to one that is.
"""


def compose(deployment: Deployment) -> str:
    """The text of `docker-compose.yaml`, which lies in `saved_models/NAME/deploy/`.

    Args:
        deployment: what the server needs; `replicas` and `claim` say nothing here.

    Returns:
        YAML after the Compose Specification, with comments.

    Source: https://github.com/compose-spec/compose-spec
    """
    name = deployment.name
    service = {
        "image": deployment.image,
        "command": flags(name),
        "ports": [f"127.0.0.1:{port}:{port}" for port in (GRPC, REST)],
        "volumes": [
            {
                "type": "bind",
                "source": "..",
                "target": f"/models/{name}",
                "read_only": True,
            }
        ],
        "user": f"{USER}:{USER}",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "cpus": _cores(deployment.cpu),
        "mem_limit": _bytes(deployment.memory),
    }
    head = (
        "# docker compose up -d; then: python client.py\n"
        "# TF Serving asks nobody who they are, so it listens on this machine alone.\n"
    )
    return head + _FLAGS_TOLD + _dump({"services": {dns_name(name): service}})


def kubernetes(deployment: Deployment) -> str:
    """The text of `kubernetes.yaml`: Deployment, Service and HorizontalPodAutoscaler.

    The model's folder is a PersistentVolumeClaim of your own, mounted read-only at /models/NAME.

    Returns:
        Three YAML documents, with comments, and a ServiceMonitor for Prometheus as a comment.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/
    """
    head = (
        f"# The claim {deployment.claim} holds saved_models/{deployment.name}: its numbered "
        "folders and deploy/.\n# Servers on several nodes need one that many nodes may read. The "
        "HorizontalPodAutoscaler\n# sets the replicas, as the load asks.\n"
    )
    parts = [_deployment(deployment), _service(deployment), _autoscaler(deployment)]
    monitor = "".join(f"# {line}\n" for line in _dump(_monitor(deployment)).splitlines())
    told = "# With the Prometheus operator, whose kinds a plain cluster does not have:\n"
    return head + _FLAGS_TOLD + "---\n".join(map(_dump, parts)) + told + monitor


def _deployment(given: Deployment) -> dict[str, Any]:
    container = {
        "name": "serving",
        "image": given.image,
        "args": flags(given.name),
        "ports": [
            {"name": "grpc", "containerPort": GRPC},
            {"name": "rest", "containerPort": REST},
        ],
        # A server listens when its models are loaded and warm, which may take minutes.
        "startupProbe": _probe(given, period=5, failures=120),
        "readinessProbe": _probe(given, period=5, failures=3),
        "livenessProbe": _probe(given, period=15, failures=4),
        "resources": {
            "requests": {"cpu": given.cpu, "memory": given.memory},
            "limits": {"memory": given.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "model", "mountPath": f"/models/{given.name}", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {
                "name": "model",
                "persistentVolumeClaim": {"claimName": given.claim, "readOnly": True},
            },
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    spec = {
        "replicas": given.replicas,
        "selector": {"matchLabels": _labels(given)},
        "template": {"metadata": {"labels": _labels(given)}, "spec": pod},
    }
    return _object("apps/v1", "Deployment", given, spec)


def _service(given: Deployment) -> dict[str, Any]:
    ports = [
        {"name": name, "port": port, "targetPort": name}
        for name, port in (("grpc", GRPC), ("rest", REST))
    ]
    return _object("v1", "Service", given, {"selector": _labels(given), "ports": ports})


def _autoscaler(given: Deployment) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": 70}
    spec = {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": dns_name(given.name),
        },
        "minReplicas": given.replicas,
        "maxReplicas": given.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", given, spec)


def _monitor(given: Deployment) -> dict[str, Any]:
    endpoint = {"port": "rest", "path": METRICS_PATH, "interval": "30s"}
    spec = {"selector": {"matchLabels": _labels(given)}, "endpoints": [endpoint]}
    return _object("monitoring.coreos.com/v1", "ServiceMonitor", given, spec)


def _object(version: str, kind: str, given: Deployment, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": dns_name(given.name), "labels": _labels(given)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _labels(given: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": dns_name(given.name)}


def _probe(given: Deployment, period: int, failures: int) -> dict[str, Any]:
    path = f"/v1/models/{given.name}"
    get = {"path": path, "port": "rest"}
    return {
        "httpGet": get,
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 3,
    }


def _cores(cpu: str) -> float:
    return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)


def _bytes(memory: str) -> int:
    """Compose knows no unit Gi."""
    power = 1 + ("Ki", "Mi", "Gi", "Ti").index(memory[-2:])
    return round(float(memory[:-2]) * 1024**power)


def _dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)


class _Plain(yaml.SafeDumper):
    """Without anchors, which YAML of people does not have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
