"""SavedModels asked the same texts in turns, in the C runtime on one thread: JSON in, JSON out.

The job: `folders`, name -> folder of a version; `batches`, lists of texts; `rounds`. The answer:
name -> `ms` of each call, `probabilities` of all texts, and `load_ms`.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from kerasft.export.c_runtime import CModel


def asked(model: CModel, texts: list[str]) -> tuple[np.ndarray, float]:
    """Probabilities, and milliseconds."""
    given = np.array([text.encode() for text in texts], dtype=object)
    start = time.perf_counter()
    answer = model.run("serving_default", {"text": given})
    return answer["probabilities"], 1000 * (time.perf_counter() - start)


def main() -> None:
    """Load all, and ask A B A B ..."""
    job = json.load(sys.stdin)
    models, found = {}, {}
    for name, folder in job["folders"].items():
        start = time.perf_counter()
        models[name] = CModel(folder, threads=1)
        load = 1000 * (time.perf_counter() - start)
        found[name] = {"load_ms": load, "ms": [], "probabilities": []}
        asked(models[name], job["batches"][0])  # warms it up
    for number in range(job["rounds"]):
        for texts in job["batches"]:
            for name, model in models.items():
                probabilities, took = asked(model, texts)
                own: dict[str, Any] = found[name]
                own["ms"].append(took)
                if number == 0:
                    own["probabilities"] += probabilities.tolist()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
