"""Compare kerasft with Transformers and PEFT on a real BERT: logits, a step of SGD, LoRA.

    python benchmarks/parity.py --model minilm --torch-python venv-torch/bin/python [--golden]
    python benchmarks/parity.py --model minilm        # against tests/golden/minilm, without torch

The head and the adapter are drawn by a fixed seed, dropout is off, one batch holds all texts.
`--golden` also writes tests/golden/minilm: the logits, and 16 values of each weight after a step.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np
from _parity_common import (
    ALPHA,
    LABELS,
    MAX_LENGTH,
    RANK,
    RATE,
    SEED,
    TARGETS,
    TEXTS,
    adapter,
    folder_with_head,
    samples,
)
from safetensors.numpy import load_file

GOLDEN = harness.ROOT / "tests" / "golden" / "minilm" / "expected.npz"
LIMIT = 1e-5


def torch_side(python: str, folder: Path, out: Path) -> tuple[dict, dict[str, str]]:
    """The arrays of Transformers and PEFT, and the versions of both."""
    out.mkdir()
    job = {"folder": str(folder), "out": str(out)}
    packages = harness.other_python(python, "_parity_side.py", job)
    arrays = dict(np.load(out / "logits.npz"))
    arrays["weights"] = load_file(out / "sgd.safetensors")
    arrays["lora_weights"] = load_file(out / "lora.safetensors")
    return arrays, packages


def pipeline(folder: Path, method: Any) -> Any:
    """The folder's model and head in kerasft, without dropout."""
    import kerasft as kf

    task = kf.tasks.TextClassification(labels=LABELS, max_length=MAX_LENGTH, head_dropout=0.0)
    backbone, tokenizer = kf.backbones.load(str(folder), dropout=0.0)
    pipe = kf.Pipeline(task.build(kf.methods.adapt(backbone, method)), tokenizer, task)
    head, weights = pipe.model.get_layer("logits"), load_file(folder / "model.safetensors")
    head.kernel.assign(weights["classifier.weight"].T)
    head.bias.assign(weights["classifier.bias"])
    return pipe


def step(pipe: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits before and after one step of plain SGD on the whole batch."""
    import keras

    features = {n: v for n, v in pipe.encode({"text": TEXTS}).items() if n in pipe.inputs}
    before = np.asarray(pipe.model(features, training=False))
    pipe.model.compile(optimizer=keras.optimizers.SGD(RATE), loss=pipe.task.loss())
    pipe.model.train_on_batch(features, np.asarray(TARGETS, "int32"))
    return before, np.asarray(pipe.model(features, training=False))


def full(folder: Path, out: Path) -> dict[str, Any]:
    """kerasft's logits and weights (by Transformers' names) around a step."""
    pipe = pipeline(folder, "full")
    ids = np.asarray(pipe.encode({"text": TEXTS})["token_ids"])
    before, after = step(pipe)
    pipe.save_hf(str(out))
    found = {"ids": ids, "logits": before, "logits_after": after}
    return found | {"weights": load_file(out / "model.safetensors")}


def lora(folder: Path) -> dict[str, Any]:
    """kerasft's logits and adapter (by PEFT's names) around a step, all else frozen."""
    import kerasft as kf

    method = kf.methods.LoRA(rank=RANK, alpha=ALPHA, targets=("query", "value"))
    pipe = pipeline(folder, method)
    pipe.model.get_layer("logits").trainable = False
    blocks = len(kf.backbones.sites(pipe.backbone).blocks)
    drawn = adapter(blocks, pipe.backbone.hidden_dim)
    own = {_site(name): value.T for name, value in drawn.items()}
    kf.methods.set_adapter_weights(pipe.backbone, own, "the drawn adapter")
    before, after = step(pipe)
    state = kf.methods.adapter_weights(pipe.backbone)
    weights = {name: state[_site(name)].T for name in drawn}
    return {"lora_logits": before, "lora_logits_after": after, "lora_weights": weights}


def _site(name: str) -> str:
    """kerasft's name of an adapter's weight: `blocks.0.query.lora_a`."""
    parts = name.split(".")
    return f"blocks.{parts[5]}.{parts[8]}.lora_{parts[9][-1].lower()}"


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """The largest absolute difference of each thing compared."""
    found = {"token ids that differ": float(np.sum(ours["ids"] != theirs["ids"]))}
    for key in ("logits", "logits_after", "lora_logits", "lora_logits_after"):
        found[key] = float(np.abs(ours[key] - theirs[key]).max())
    for key in ("weights", "lora_weights"):
        if "names" in theirs:
            sampled = samples({k: ours[key][k] for k in theirs["names"][()][key]})
            found[key] = float(np.abs(sampled - theirs[key]).max())
            continue
        found[key] = max(float(np.abs(ours[key][k] - v).max()) for k, v in theirs[key].items())
    return found


def write_golden(theirs: dict[str, Any]) -> None:
    """The logits, and samples of the weights."""
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    small = {k: samples(v) if isinstance(v, dict) else v for k, v in theirs.items()}
    names = {f"{k}_names": np.array(sorted(theirs[k])) for k in ("weights", "lora_weights")}
    np.savez_compressed(GOLDEN, **small, **names)


def read_golden() -> dict[str, Any]:
    """What `write_golden` wrote."""
    arrays = dict(np.load(GOLDEN))
    names = {k: arrays.pop(f"{k}_names").tolist() for k in ("weights", "lora_weights")}
    return arrays | {"names": np.array(names, dtype=object)}


def main() -> int:
    """Run both sides and record the differences."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a BERT folder, such as MiniLM")
    parser.add_argument("--torch-python", help="interpreter with torch, transformers and peft")
    parser.add_argument("--golden", action="store_true", help="write tests/golden/minilm too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        folder = folder_with_head(args.model, out / "model")
        packages: dict[str, str] = {}
        if args.torch_python:
            theirs, packages = torch_side(args.torch_python, folder, out / "torch")
        else:
            theirs = read_golden()
        if args.golden and args.torch_python:
            write_golden(theirs)
        found = differences(full(folder, out / "after") | lora(folder), theirs)
    against = "Transformers and PEFT" if args.torch_python else "the golden arrays"
    found = {key.replace("_", " "): value for key, value in found.items()}
    bounds = [harness.Bound(key, value, "<=", LIMIT) for key, value in found.items()]
    path = harness.record(
        f"parity-{args.model.name}" + ("" if args.torch_python else "-golden"),
        f"{args.model.name} in kerasft against {against}: logits on the same head, weights after "
        "one full-batch step of SGD, LoRA; largest absolute differences.",
        values=found,
        bounds=bounds,
        seeds=[SEED],
        packages=packages,
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
