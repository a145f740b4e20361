"""What `kerasft serve` costs, and what its batching is worth.

    python benchmarks/serving.py --model MINILM --data NEWS --torch-python PYTHON [--seconds 8]

MINILM is a Hugging Face folder, NEWS a folder with test.jsonl; PYTHON has torch, Transformers,
fastapi and uvicorn. A classifier (MiniLM with a new head: the time does not depend on what it has
learned) is exported, and served by processes of their own; this process holds the clients. Texts
are cut to at most 32 tokens. All servers are up all the time and asked in turns:

- one text at a time, over REST: the server's round trip beside the C runtime's own time for the
  same text in another process;
- 32 clients with a text each: with batches of up to 32 rows, with batches of 1, and FastAPI with a
  pipeline of Transformers on the same weights.
"""

import argparse
import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import _harness as harness
import numpy as np
from _served import free_port, running
from _serving_sides import Clients

SIDE = str(harness.HERE / "_serving_sides.py")
LABELS = ("business", "sport", "tech", "world")
TOKENS, CLIENTS = 32, 32
BATCHES = """
max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: {wait} }}
num_batch_threads {{ value: 2 }}
max_enqueued_batches {{ value: 1000 }}
"""


def make(model: Path, folder: Path, texts: list[str]) -> list[str]:
    """Export the classifier for both sides; the texts, cut to what fits."""
    import kerasft as kf
    from kerasft._core.seeds import set_seed
    from kerasft.backbones import load
    from kerasft.methods import adapt
    from kerasft.pipeline import Pipeline

    set_seed(0)
    backbone, tokenizer = load(str(model))
    task = kf.tasks.TextClassification(labels=LABELS, max_length=TOKENS + 2)
    pipe = Pipeline(task.build(adapt(backbone)), tokenizer, task)
    pipe.export(str(folder / "news"))
    pipe.save_hf(folder / "hf")
    return [_cut(text, tokenizer) for text in texts]


def _cut(text: str, tokenizer: Any) -> str:
    words = text.split()
    while len(tokenizer([" ".join(words)])[0]) > TOKENS:
        words = words[: max(len(words) * 9 // 10, 1)]
    return " ".join(words)


def one_by_one(folder: Path, port: int, path: str, texts: list[str]) -> dict[str, list[float]]:
    """Milliseconds of the model alone and of the server's round trip, text by text, in turns."""
    command = [sys.executable, SIDE, "direct", str(folder / "news" / "1")]
    alone = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    bodies = [json.dumps({"instances": [text]}).encode() for text in texts]
    asked = Clients(port, path, bodies, lambda t: json.loads(t)["predictions"][0]["probabilities"])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found: dict[str, list[float]] = {"model": [], "server": [], "apart": []}
    for place, text in enumerate([texts[0]] * 20 + texts):
        alone.stdin.write(json.dumps(text) + "\n")
        alone.stdin.flush()
        took, want = json.loads(alone.stdout.readline())
        start = time.perf_counter()
        got = asked.one(connection, max(place - 20, 0))
        if place >= 20:  # what comes before warms both up
            found["server"].append(1000 * (time.perf_counter() - start))
            found["model"].append(1000 * took)
            found["apart"].append(float(np.abs(np.subtract(got, want)).max()))
    connection.close()
    alone.stdin.close()
    alone.wait(60)
    return found


def main() -> int:
    """Serve, ask in turns, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn of 32 clients")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = [json.loads(x) for x in (args.data / "test.jsonl").read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        texts = make(args.model, folder, [row["text"] for row in rows][:200])
        bodies = [json.dumps({"instances": [text]}).encode() for text in texts]
        serve = [sys.executable, "-m", "kerasft", "serve", str(folder / "news"), "--no-page"]
        ports = {"plain": free_port(), "batches": free_port(), "ones": free_port()}
        for name, size, wait in (("batches", 32, 2000), ("ones", 1, 0)):
            (folder / name).write_text(BATCHES.format(size=size, wait=wait))
        for name, port in ports.items():
            more = ["--rest-port", str(port), "--port", str(free_port())]
            if name != "plain":
                more += ["--batching-parameters-file", str(folder / name)]
            stack.enter_context(running(serve + more, "/readyz", port))
        ports["fastapi"] = free_port()
        theirs = [args.torch_python, SIDE, "fastapi", str(folder / "hf"), str(ports["fastapi"])]
        stack.enter_context(running(theirs, "/docs", ports["fastapi"], env=_no_path()))
        single = one_by_one(folder, ports["plain"], "/v1/models/news:predict", texts)
        paths = dict.fromkeys(ports, "/v1/models/news:predict") | {"fastapi": "/predict"}
        clients = {n: Clients(ports[n], paths[n], bodies) for n in ("batches", "ones", "fastapi")}
        for each in clients.values():
            each.ask(CLIENTS, 2.0)  # warms it up
        many = harness.in_turns(
            range(args.rounds),
            **{n: lambda _, c=c: c.ask(CLIENTS, args.seconds) for n, c in clients.items()},
        )
    return harness.finish(told(args, single, many))


def _no_path() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def told(args: argparse.Namespace, single: dict, many: dict) -> Path:
    """The run file."""
    pairs = zip(single["server"], single["model"], strict=True)
    added = median(server - model for server, model in pairs)
    speed = {name: [run["requests_a_second"] for run in runs] for name, runs in many.items()}

    def times(one: str, other: str) -> float:
        return median(a / b for a, b in zip(speed[one], speed[other], strict=True))

    values = {
        "model alone, ms": median(single["model"]),
        "round trip of the server, ms": median(single["server"]),
    }
    for name, runs in many.items():
        for key in runs[0]:
            values[f"{name}: {key}"] = median(run[key] for run in runs)
    return harness.record(
        "serving",
        f"`kerasft serve` on {args.model.name} with a head of {len(LABELS)} classes, texts of "
        f"{args.data.name} cut to {TOKENS} tokens. One text at a time over REST beside the model's "
        f"own time in another process, in turns; then {CLIENTS} clients for {args.seconds:g} s a "
        "turn: batches of up to 32, batches of 1, and FastAPI with a pipeline of Transformers. "
        "Medians; clients and servers share the cores.",
        values=values,
        bounds=[
            harness.Bound("ms that a round trip adds to the model's own time", added, "<=", 3.0),
            harness.Bound("greatest difference of an answer", max(single["apart"]), "<=", 1e-5),
            harness.Bound("batches / ones, requests a second", times("batches", "ones"), ">=", 2.0),
            harness.Bound(
                "batches / FastAPI, requests a second", times("batches", "fastapi"), ">=", 2.0
            ),
        ],
        raw={"single": single, "many": many},
        seeds=[0],
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
