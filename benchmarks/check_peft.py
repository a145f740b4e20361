"""Check that PEFT loads the LoRA folders that kerasft writes, kerasft PEFT's, with equal answers.

    python benchmarks/check_peft.py --torch-python PYTHON [FOLDER ...]

For every folder of tests/golden with a head for texts, and every other such Hugging Face folder
that is named, with LoRA and with DoRA: an adapter and a head with random weights go from kerasft to
PEFT, which gives its logits and writes what it loaded; that goes back to kerasft. Then PEFT makes
one of its own, with ranks and alphas by module and drawn lengths, which kerasft reads. PYTHON is an
interpreter with torch, transformers and peft.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
LIMIT = 1e-5
TARGETS = ("query", "key", "value", "up")
KINDS = ("LoRA", "DoRA")


def pipeline(source: Path, kind: str = "LoRA", peft: Path | None = None) -> Any:
    """kerasft's pipeline of a checkpoint with an adapter: PEFT's, or one with random weights."""
    import kerasft as kf
    from kerasft.backbones.huggingface import load_folder, read_head
    from kerasft.methods import LoRA, adapt
    from kerasft.tasks import TextClassification

    backbone, tokenizer = load_folder(str(source), dtype="float32", dropout=0.0)
    head = read_head(str(source))
    labels = () if head.problem == "regression" else head.labels
    task = TextClassification(labels=labels, problem=head.problem, head_dropout=0.0, max_length=40)
    if peft is not None:
        return kf.from_peft(backbone, tokenizer, peft, task, head)
    method = LoRA(rank=3, alpha=7.0, targets=TARGETS, dora=kind == "DoRA")
    model = task.build(adapt(backbone, method))
    task.load_head(model, head)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape).astype("float32"))
    return kf.Pipeline(model, tokenizer, task)


def answers(pipe: Any, features: dict[str, np.ndarray]) -> np.ndarray:
    """Logits [rows, classes] of ids."""
    return np.asarray(pipe.model({name: features[name] for name in pipe.inputs}))


def theirs(job: dict[str, str]) -> dict[str, Any]:
    """In the other interpreter: logits of kerasft's folders, and two folders of PEFT for each."""
    import peft
    import torch
    import transformers as tr

    features = np.load(job["features"])
    batch = {
        "input_ids": torch.tensor(features["token_ids"].astype("int64")),
        "attention_mask": torch.tensor(features["padding_mask"].astype("int64")),
    }

    def base() -> Any:
        return tr.AutoModelForSequenceClassification.from_pretrained(job["source"]).eval()

    def logits(model: Any) -> list:
        with torch.no_grad():
            return model(**batch).logits.numpy().tolist()

    found: dict[str, Any] = {}
    for kind in KINDS:
        place = Path(job["place"]) / kind
        model = peft.PeftModel.from_pretrained(base(), place / "ours").eval()
        found[kind] = {"ours": logits(model)}
        model.save_pretrained(place / "again")
        torch.manual_seed(0)
        modules = json.loads((place / "ours" / "adapter_config.json").read_text(encoding="utf-8"))
        targets = modules["target_modules"]
        config = peft.LoraConfig(
            r=4,
            lora_alpha=9,
            target_modules=targets,
            task_type="SEQ_CLS",
            use_rslora=True,
            use_dora=kind == "DoRA",
            init_lora_weights=False,
            rank_pattern={targets[0]: 5},
            alpha_pattern={targets[-1]: 3.0},
        )
        own = peft.get_peft_model(base(), config).eval()
        with torch.no_grad():
            for name, weight in own.named_parameters():
                if "magnitude" in name:  # which start as the lengths that the weights have
                    weight *= 1 + 0.2 * torch.rand(weight.shape)
        found[kind]["own"] = logits(own)
        own.save_pretrained(place / "own")
    packages = ("torch", "transformers", "peft")
    return found | {"packages": {p: sys.modules[p].__version__ for p in packages}}


def compare(source: Path, python: str, place: Path) -> list[dict[str, Any]]:
    """The largest differences of the logits, relative where they exceed 1, kind by kind."""
    import kerasft as kf

    texts = json.loads((GOLDEN / "bert" / "texts.json").read_text(encoding="utf-8"))["texts"]
    pipes = {kind: pipeline(source, kind) for kind in KINDS}
    features = pipes["LoRA"].encode({"text": texts})
    np.savez(place / "features.npz", **{k: np.asarray(v) for k, v in features.items()})
    for kind, pipe in pipes.items():
        (place / kind).mkdir()
        kf.save_peft(pipe, place / kind / "ours")
    names = {"source": source, "features": place / "features.npz", "place": place}
    job = json.dumps({name: str(path) for name, path in names.items()})
    command = [python, str(Path(__file__).resolve()), "--job", job]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    there = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for kind, pipe in pipes.items():
        ours = answers(pipe, features)
        back = answers(pipeline(source, peft=place / kind / "again"), features)
        own = answers(pipeline(source, peft=place / kind / "own"), features)
        rows.append(
            {
                "folder": source.name,
                "kind": kind,
                "ours in PEFT": off(ours, there[kind]["ours"]),
                "PEFT's copy here": off(back, ours),
                "PEFT's own here": off(own, there[kind]["own"]),
                "packages": there["packages"],
            }
        )
    return rows


def off(got: Any, want: Any) -> float:
    """The largest difference, relative to the largest of the wanted where that is above 1."""
    got, want = np.asarray(got), np.asarray(want)
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def main() -> int:
    """Compare each folder, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", help="an interpreter with torch, transformers and peft")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("folders", nargs="*", type=Path)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(theirs(json.loads(args.job))))
        return 0
    if not args.torch_python:
        parser.error("--torch-python is needed")
    sys.path.insert(0, str(ROOT))
    from kerasft.backbones.huggingface import read_head

    golden = sorted(path.parent for path in GOLDEN.glob("*/model.safetensors"))
    rows = []
    for source in [*golden, *args.folders]:
        head = read_head(str(source))
        if head is None or head.problem in ("tags", "answers"):
            continue
        with tempfile.TemporaryDirectory() as place:
            rows += compare(source, args.torch_python, Path(place))
            print(*rows[-len(KINDS) :], sep="\n", flush=True)
    ways = ("ours in PEFT", "PEFT's copy here", "PEFT's own here")
    return harness.finish(
        harness.record(
            "check-peft",
            "LoRA and DoRA adapters with their heads from kerasft to PEFT and back, and PEFT's own "
            "in kerasft: largest difference of the logits, relative where they exceed 1.",
            values={"folders": len({row["folder"] for row in rows})},
            bounds=[
                harness.Bound(f"{row['folder']}, {row['kind']}: {way}", row[way], "<=", LIMIT)
                for row in rows
                for way in ways
            ],
            raw={"rows": rows},
        )
    )


if __name__ == "__main__":
    sys.exit(main())
