"""The processes of `serving.py` beside the server: each reads a job as JSON and prints JSON.

    python benchmarks/_serving_sides.py direct|fastapi ...

`direct` answers texts with the C runtime in its own process, one line each, and tells how long that
took; `fastapi` is the server that a team would write with FastAPI and a pipeline of Transformers.
`Clients` loads a server from the process that imports it.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any


class Clients:
    """Some clients, each with a connection of its own and one request under way.

    Args:
        port: where a server listens on this machine.
        path: what is asked.
        bodies: one request each; a sequence.
        read: the body of an answer -> what is kept of it.
    """

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], read: Any = None):
        self.port, self.path, self.bodies, self.read = port, path, bodies, read

    def ask(self, count: int, seconds: float) -> dict[str, Any]:
        """Requests of `count` clients for some seconds: how many a second, and their times."""
        times: list[list[float]] = [[] for _ in range(count)]
        gate, end = threading.Barrier(count + 1), [0.0]

        def client(number: int) -> None:
            connection = self.connection()
            connection.connect()
            gate.wait()
            place = number
            while time.perf_counter() < end[0]:
                start = time.perf_counter()
                self.one(connection, place)
                times[number].append(time.perf_counter() - start)
                place += count
            connection.close()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        end[0] = start + seconds
        gate.wait()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - start
        every = sorted(t for some in times for t in some)
        return {
            "requests_a_second": len(every) / took,
            "p50_ms": 1000 * every[len(every) // 2],
            "p99_ms": 1000 * every[min(len(every) - 1, len(every) * 99 // 100)],
        }

    def connection(self) -> http.client.HTTPConnection:
        """A connection of one client."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def one(self, connection: http.client.HTTPConnection, place: int) -> Any:
        """One request and its answer."""
        body = self.bodies[place % len(self.bodies)]
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text[:200]!r}")
        return self.read(text) if self.read else None


def direct(folder: str) -> None:
    """Time the model alone, in the C runtime of a process of its own."""
    import numpy as np

    from kerasft.export.c_runtime import CModel

    with CModel(folder) as model:
        for line in sys.stdin:
            text = np.array([json.loads(line).encode()], dtype=object)
            start = time.perf_counter()
            answer = model.run("serving_default", {"text": text})
            took = time.perf_counter() - start
            print(json.dumps([took, np.asarray(answer["probabilities"])[0].tolist()]), flush=True)


def fastapi(folder: str, port: int) -> None:
    """Serve a folder of Transformers as its documentation shows it."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from transformers import pipeline

    class Texts(BaseModel):
        instances: list[str]

    app = FastAPI()
    classify = pipeline("text-classification", model=folder, tokenizer=folder, top_k=None)

    @app.post("/predict")
    def predict(texts: Texts) -> dict[str, Any]:
        return {"predictions": classify(texts.instances, truncation=True, max_length=64)}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    if sys.argv[1] == "direct":
        direct(sys.argv[2])
    else:
        fastapi(sys.argv[2], int(sys.argv[3]))
