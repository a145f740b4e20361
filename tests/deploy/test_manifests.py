"""Compose file and Kubernetes manifests: what refers to each other is the same thing.

Against the published schemas they are checked in test_manifest_schemas.py.
"""

import re

import pytest
import yaml

from kerasft._core.errors import InputError
from kerasft.export.deploy.manifests import Deployment, compose, dns_name, flags, kubernetes

SPAM = Deployment("Spam_v2", replicas=2, cpu="500m", memory="1.5Gi")


def objects(deployment):
    return {o["kind"]: o for o in yaml.safe_load_all(kubernetes(deployment))}


def container(deployment):
    (found,) = objects(deployment)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_the_flags_name_files_of_the_mounted_folder():
    service = yaml.safe_load(compose(SPAM))["services"]["spam-v2"]
    (volume,) = service["volumes"]
    assert volume == {
        "type": "bind",
        "source": "..",
        "target": "/models/Spam_v2",
        "read_only": True,
    }
    assert service["command"] == container(SPAM)["args"] == flags("Spam_v2")
    files = [f.split("=", 1)[1] for f in flags("Spam_v2") if "_file=" in f]
    names = ("models.config", "batching.config", "monitoring.config")
    assert files == [f"{volume['target']}/deploy/{name}" for name in names]
    mounts = {m["name"]: m for m in container(SPAM)["volumeMounts"]}
    assert mounts["model"] == {
        "name": "model",
        "mountPath": volume["target"],
        "readOnly": True,
    }


def test_compose_takes_cores_and_bytes():
    service = yaml.safe_load(compose(SPAM))["services"]["spam-v2"]
    assert service["cpus"] == 0.5 and service["mem_limit"] == 3 * 2**29
    assert service["image"] == "tensorflow/serving:2.20.0"
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert service["read_only"] and service["user"] == "1000:1000"


def test_compose_puts_no_variables_into_names():
    text = compose(Deployment("a", image="x"))
    assert "$" not in text
    with pytest.raises(InputError, match="Kubernetes takes names"):
        Deployment("a$HOME")


def test_labels_names_and_ports_meet():
    """Fails if a selector, a port's name or the target of the autoscaler is another's."""
    found = objects(SPAM)
    assert list(found) == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    assert {o["metadata"]["name"] for o in found.values()} == {"spam-v2"}
    pods = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == pods
    assert found["Service"]["spec"]["selector"] == pods
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    own = {"apiVersion": found["Deployment"]["apiVersion"], "kind": "Deployment"}
    assert target == own | {"name": "spam-v2"}
    named = {p["name"]: p["containerPort"] for p in container(SPAM)["ports"]}
    ports = found["Service"]["spec"]["ports"]
    assert {p["targetPort"]: p["port"] for p in ports} == named == {"grpc": 8500, "rest": 8501}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    mounted = {m["name"] for m in container(SPAM)["volumeMounts"]}
    assert {v["name"] for v in pod["volumes"]} == mounted == {"model", "tmp"}


def test_probes_ask_for_the_state_of_the_model():
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container(SPAM)[kind]
        assert probe["httpGet"] == {"path": "/v1/models/Spam_v2", "port": "rest"}
    start = container(SPAM)["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 600


def test_a_server_may_do_little():
    pod = objects(SPAM)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
    own = container(SPAM)["securityContext"]
    assert own["readOnlyRootFilesystem"] and own["capabilities"] == {"drop": ["ALL"]}
    assert own["allowPrivilegeEscalation"] is False
    claim = pod["volumes"][0]["persistentVolumeClaim"]
    assert claim == {"claimName": "spam-v2-model", "readOnly": True}


def test_what_a_server_needs():
    found = objects(SPAM)
    assert found["Deployment"]["spec"]["replicas"] == 2
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 8)
    assert container(SPAM)["resources"] == {
        "requests": {"cpu": "500m", "memory": "1.5Gi"},
        "limits": {"memory": "1.5Gi"},
    }


def test_the_service_monitor_is_a_comment_that_is_yaml():
    text = kubernetes(SPAM)
    tail = text[text.index("# apiVersion: monitoring") :]
    monitor = yaml.safe_load(re.sub(r"(?m)^# ", "", tail))
    assert monitor["kind"] == "ServiceMonitor"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/monitoring/prometheus/metrics"


def test_the_flag_that_labels_need_is_explained():
    for text in (compose(SPAM), kubernetes(SPAM)):
        told = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
        assert "Without --allow_version_labels_for_unavailable_models a server does not" in told
        assert "&" not in text and "*" not in text  # no anchors


@pytest.mark.parametrize(
    ("name", "dns"),
    [
        ("spam", "spam"),
        ("Spam_v2.1", "spam-v2-1"),
        ("_a_", "a"),
        ("7", "model-7"),
        ("a" * 63, "a" * 63),
        ("垃圾", "xn--qes1f"),
    ],
)
def test_names_are_made_valid(name, dns):
    assert dns_name(name) == dns


@pytest.mark.parametrize("name", ["", "---", "垃 圾", "a b", "a/b", "a" * 64, "a\n"])
def test_names_without_a_valid_form_are_refused(name):
    with pytest.raises(InputError, match="Received"):
        dns_name(name)
    with pytest.raises(InputError, match="Received"):
        Deployment(name)


@pytest.mark.parametrize(
    "given",
    [
        {"image": ""},
        {"image": "a b"},
        {"replicas": 0},
        {"replicas": 3, "max_replicas": 2},
        {"cpu": "0"},
        {"cpu": "two"},
        {"cpu": 2},
        {"memory": "4"},
        {"memory": "4GB"},
        {"memory": "0Gi"},
        {"claim": "a b"},
    ],
)
def test_values_that_kubernetes_refuses(given):
    with pytest.raises(InputError, match="Received"):
        Deployment("spam", **given)


@pytest.mark.parametrize("cpu", ["1", "0.5", ".5", "1.25", "250m", "10"])
def test_cores(cpu):
    assert Deployment("spam", cpu=cpu).cpu == cpu
