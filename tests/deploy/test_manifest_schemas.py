"""Kubernetes manifests against the published schemas, and against what no schema says.

kubernetes_schemas.json is the part of the schemas that the manifests meet. It is written by
benchmarks/check_manifests.py, which checks the compose file too: of its schema no small form is
here.
"""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from kerasft.export.deploy.manifests import Deployment, kubernetes

SCHEMAS = json.loads((Path(__file__).parent / "kubernetes_schemas.json").read_text())["schemas"]
CASES = (
    Deployment("spam"),
    Deployment("Spam_v2.1", replicas=3, cpu="500m", memory="1.5Gi", claim="models"),
)
# Objects of any keys: names of labels and of resources.
MAPS = ("labels", "matchLabels", "selector", "requests", "limits")
DNS = re.compile("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def objects(given=CASES[1]):
    return {value["kind"]: value for value in yaml.safe_load_all(kubernetes(given))}


def complaints(value):
    """What the schema of an object's apiVersion and kind says of it."""
    schema = SCHEMAS.get(f"{value.get('apiVersion')} {value.get('kind')}")
    if schema is None:
        return ["there is no such kind"]
    return [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def at(value, place):
    for key in place:
        value = value[key]
    return value


def places(value, place=()):
    """Every object in a value that has fields of its own."""
    if isinstance(value, dict):
        if not place or place[-1] not in MAPS:
            yield place
        for key, inner in value.items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*place, number))


@pytest.mark.parametrize("given", CASES, ids=lambda case: case.name)
def test_each_object_fits_its_schema(given):
    found = objects(given)
    assert len(found) == len(SCHEMAS) == 3
    for value in found.values():
        assert complaints(value) == []


@pytest.mark.parametrize("kind", ["Deployment", "Service", "HorizontalPodAutoscaler"])
def test_a_field_that_does_not_exist_is_refused_everywhere(kind):
    """Without this the schemas, which are cut down, could say nothing of some place."""
    value, asked = objects()[kind], 0
    for place in places(value):
        wrong = copy.deepcopy(value)
        at(wrong, place)["noSuchField"] = 1
        assert complaints(wrong), place
        asked += 1
    assert asked >= {"Deployment": 20}.get(kind, 5)


POD = ("spec", "template", "spec")
BOX = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("Deployment", ("apiVersion",), "apps/v2"),
        ("Deployment", ("kind",), "Deploy"),
        ("Deployment", ("spec", "replicas"), "3"),
        ("Deployment", ("spec", "selector"), None),
        ("Deployment", ("spec", "template"), None),
        ("Deployment", (*POD, "containers"), None),
        ("Deployment", (*BOX, "name"), None),
        ("Deployment", (*BOX, "args"), "--port=1"),
        ("Deployment", (*BOX, "ports", 0, "containerPort"), "8500"),
        ("Deployment", (*BOX, "ports", 0, "containerPort"), None),
        ("Deployment", (*BOX, "startupProbe", "periodSeconds"), "5"),
        ("Deployment", (*BOX, "startupProbe", "httpGet", "port"), None),
        ("Deployment", (*BOX, "volumeMounts", 0, "mountPath"), None),
        ("Deployment", (*BOX, "securityContext", "readOnlyRootFilesystem"), "true"),
        ("Deployment", (*POD, "volumes", 0, "persistentVolumeClaim", "claimName"), None),
        ("Service", ("apiVersion",), "apps/v1"),
        ("Service", ("spec", "ports", 0, "port"), "8500"),
        ("Service", ("spec", "ports", 0, "port"), None),
        ("HorizontalPodAutoscaler", ("apiVersion",), "autoscaling/v1"),
        ("HorizontalPodAutoscaler", ("spec", "maxReplicas"), None),
        ("HorizontalPodAutoscaler", ("spec", "scaleTargetRef", "name"), None),
        ("HorizontalPodAutoscaler", ("spec", "metrics", 0, "type"), None),
        ("HorizontalPodAutoscaler", ("spec", "metrics", 0, "resource", "target"), None),
    ],
)
def test_a_wrong_type_and_a_missing_field_are_refused(kind, place, value):
    """None: the field is left out."""
    wrong = objects()[kind]
    *outer, last = place
    if value is None:
        del at(wrong, outer)[last]
    else:
        at(wrong, outer)[last] = value
    assert complaints(wrong)


# --- what no schema says ------------------------------------------------------------------------


def broken(found):
    """Rules of a cluster that the objects break together."""
    deployment, service = found["Deployment"], found["Service"]
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    template, box = deployment["spec"]["template"], at(deployment, BOX)
    labels, ports = template["metadata"]["labels"], {p["name"] for p in box["ports"]}
    own = {"apiVersion": deployment["apiVersion"], "kind": "Deployment"}
    probes = [
        box[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")
    ]
    volumes = [volume["name"] for volume in template["spec"]["volumes"]]
    numbers = [port["port"] for port in service["spec"]["ports"]]
    rules = {
        "names": all(DNS.fullmatch(value["metadata"]["name"]) for value in found.values()),
        "selector": deployment["spec"]["selector"]["matchLabels"].items() <= labels.items(),
        "service": service["spec"]["selector"].items() <= labels.items(),
        "target": scaler["scaleTargetRef"] == own | {"name": deployment["metadata"]["name"]},
        "replicas": 1 <= scaler["minReplicas"] <= scaler["maxReplicas"],
        # The scaler measures a share of what is requested, and without a request nothing.
        "request": scaler["metrics"][0]["resource"]["name"] in box["resources"]["requests"],
        "ports": {port["targetPort"] for port in service["spec"]["ports"]} <= ports,
        "ports once": len(set(numbers)) == len(numbers),
        "port numbers": all(0 < p["containerPort"] < 2**16 for p in box["ports"]),
        "probes": set(probes) <= ports,
        "volumes": {mount["name"] for mount in box["volumeMounts"]} == set(volumes),
    }
    return [name for name, kept in rules.items() if not kept]


def test_the_objects_keep_the_rules_of_a_cluster():
    assert [broken(objects(given)) for given in CASES] == [[], []]


@pytest.mark.parametrize(
    ("rule", "kind", "place", "value"),
    [
        ("names", "Service", ("metadata", "name"), "Spam_v2"),
        ("selector", "Deployment", ("spec", "selector", "matchLabels"), {"app": "other"}),
        ("service", "Service", ("spec", "selector"), {"app": "other"}),
        ("target", "HorizontalPodAutoscaler", ("spec", "scaleTargetRef", "name"), "other"),
        ("target", "HorizontalPodAutoscaler", ("spec", "scaleTargetRef", "kind"), "StatefulSet"),
        ("replicas", "HorizontalPodAutoscaler", ("spec", "minReplicas"), 1000),
        ("request", "Deployment", (*BOX, "resources", "requests"), {"memory": "1Gi"}),
        ("ports", "Service", ("spec", "ports", 0, "targetPort"), "http"),
        ("ports once", "Service", ("spec", "ports", 0, "port"), 8501),
        ("port numbers", "Deployment", (*BOX, "ports", 0, "containerPort"), 85000),
        ("probes", "Deployment", (*BOX, "readinessProbe", "httpGet", "port"), "http"),
        ("volumes", "Deployment", (*POD, "volumes", 0, "name"), "models"),
    ],
)
def test_each_rule_can_be_broken(rule, kind, place, value):
    found = objects()
    *outer, last = place
    at(found[kind], outer)[last] = value
    assert broken(found) == [rule]
    assert complaints(found[kind]) == []  # no schema sees it
