"""Memory of `kerasft serve` under load for minutes, with words that it has never seen.

    python benchmarks/soak.py --model MINILM [--seconds 600]
    python benchmarks/soak.py --model byte-pairs

MINILM is a Hugging Face folder; `byte-pairs` is a tiny GPT-2 with random weights, whose tokenizer
in KerasHub remembers every word that it ever saw. A classifier is exported and served by a process
of its own. First some clients ask as fast as they can: that is the capacity. Then requests come at
80% of it, each with words of random letters, so that anything that is kept of a word would grow.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import _harness as harness
from _served import free_port, memory, running
from _serving_sides import Clients

CLIENTS, SHARE, WORDS, SEED = 4, 0.8, 12, 0
LETTERS = "abcdefghijklmnopqrstuvwxyz"
EXPORT = """
import sys
import kerasft as kf
from kerasft._core.seeds import set_seed
from kerasft.backbones import load
from kerasft.methods import adapt
from kerasft.pipeline import Pipeline
from kerasft.testing import tiny
set_seed(0)
model, folder = sys.argv[1:]
tiny_one = model == "byte-pairs"
made = (tiny.backbone("gpt2"), tiny.tokenizer("gpt2")) if tiny_one else load(model)
task = kf.tasks.TextClassification(labels=("ham", "spam"), max_length=34)
Pipeline(task.build(adapt(made[0])), made[1], task).export(folder)
"""


class NewTexts:
    """Bodies of requests, each of words that no other has; like a list without an end."""

    def __init__(self, seed: int):
        self._draw = random.Random(seed)
        self._one = threading.Lock()

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, _: int) -> bytes:
        with self._one:
            words = ["".join(self._draw.choices(LETTERS, k=8)) for _ in range(WORDS)]
        return json.dumps({"instances": [" ".join(words)]}).encode()


def soak(clients: Clients, pid: int, rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a steady rate, and sample the memory of the server.

    Args:
        clients: what is asked.
        pid: of the server.
        rate: requests a second.
        seconds: how long.

    Returns:
        MiB at each of 600 moments (a second each in ten minutes): `own`, and `resident` with the
        pages of files; `requests` that were answered, and `errors`.
    """
    start, count = time.monotonic(), [0] * CLIENTS
    errors: list[str] = []

    def client(number: int) -> None:
        connection = clients.connection()
        turn = number
        while (due := start + turn / rate) < start + seconds:
            time.sleep(max(due - time.monotonic(), 0))
            try:
                clients.one(connection, turn)
                count[number] += 1
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
                connection.close()
            turn += CLIENTS
        connection.close()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    samples = []
    while (moment := time.monotonic() - start) < seconds:
        samples.append(memory(pid))
        time.sleep(min(seconds / 600, seconds - moment))
    for thread in threads:
        thread.join()
    return {
        "own": [own for own, _ in samples],
        "resident": [sum(both) for both in samples],
        "requests": sum(count),
        "errors": errors,
    }


def growth(samples: list[float], warm: float = 0.2) -> float:
    """By which share of itself memory grew, from the end of a warm-up to the end.

    Args:
        samples: MiB, evenly spaced.
        warm: share of the time that warms up: two minutes of ten.
    """
    some = max(len(samples) // 20, 1)  # half a minute of ten, so that no single moment decides
    first = int(len(samples) * warm)
    return median(samples[-some:]) / median(samples[first : first + some]) - 1


def capacity(clients: Clients, seconds: float) -> float:
    """Requests a second that are answered where clients ask as fast as they can."""
    clients.ask(CLIENTS, seconds / 4)  # warms it up
    return clients.ask(CLIENTS, seconds)["requests_a_second"]


def serve_and_soak(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Export, serve, find the capacity, soak."""
    done = [sys.executable, "-c", EXPORT, args.model, str(folder / "m")]
    subprocess.run(done, check=True, stderr=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, "-m", "kerasft", "serve", str(folder / "m"), "--no-page"]
    command += ["--rest-port", str(port), "--port", str(free_port())]
    with running(command, "/readyz", port) as process:
        clients = Clients(port, "/v1/models/m:predict", NewTexts(SEED))
        most = capacity(clients, min(args.seconds / 30, 20))
        found = soak(clients, process.pid, SHARE * most, args.seconds)
    return found | {"capacity": most}


def main() -> int:
    """Serve, soak, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a folder, or `byte-pairs`")
    parser.add_argument("--seconds", type=float, default=600.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = serve_and_soak(args, Path(temporary))
    return harness.finish(told(args, found))


def told(args: argparse.Namespace, found: dict[str, Any]) -> Path:
    """The run file."""
    name, kinds = Path(args.model).name, ("own", "resident")
    wanted = SHARE * found["capacity"] * args.seconds
    tokens = "byte pairs" if name == "byte-pairs" else "WordPiece"
    return harness.record(
        f"serving-soak-{name}",
        f"`kerasft serve` on a classifier of {name} ({tokens}) for {args.seconds:g} s at "
        f"{SHARE:.0%} of its capacity, one text of {WORDS} words of random letters a request, so "
        "that no word comes twice. Server and clients share the cores. Resident memory is the "
        "process's own with the pages of files, which the system takes back where others need "
        "them; growth is from the end of the first fifth to the end.",
        values={
            "capacity, requests a second": found["capacity"],
            "requests answered": found["requests"],
            "new words": found["requests"] * WORDS,
        }
        | {
            f"MiB {kind}, {when}": value
            for kind in kinds
            for when, value in (
                ("at the end of the first fifth", found[kind][len(found[kind]) // 5]),
                ("at most", max(found[kind])),
                ("at the end", found[kind][-1]),
            )
        },
        bounds=[
            harness.Bound("growth of its own memory", growth(found["own"]), "<=", 0.01),
            harness.Bound("growth of resident memory", growth(found["resident"]), "<=", 0.01),
            harness.Bound("requests that failed", float(len(found["errors"])), "<=", 0.0),
            harness.Bound("answered / sent at that rate", found["requests"] / wanted, ">=", 0.95),
        ],
        raw={f"MiB {kind}": found[kind][:: max(len(found[kind]) // 60, 1)] for kind in kinds}
        | {"errors": found["errors"][:20]},
        seeds=[SEED],
    )


if __name__ == "__main__":
    sys.exit(main())
