"""How much of a batch of chats is real tokens, packed and not.

    python benchmarks/packing_fill.py --data dialogue --model smollm2 --max-length 256

DATA is a folder with train.jsonl, chats under `turns`; MODEL is a folder whose tokenizer is used.
Rows are encoded and put into batches as `kerasft.train` does, and the positions of all batches of
an epoch are counted. `--turns 4` cuts each chat into chats of four turns first: a chat that is
longer than a row is cut to it, and rows that are full already cannot be packed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import _harness as harness
import numpy as np

NAMES = ("token_ids", "padding_mask")


def chats_of(data: Path, turns: int | None, out: Path) -> str:
    """The chats of the training rows, whole or in parts of so many turns, as a file."""
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["turns"] for line in lines]
    if turns is not None:
        # What is left over at the end is dropped, so that every part ends with the assistant.
        chats = [
            chat[start : start + turns]
            for chat in chats
            for start in range(0, len(chat) - turns + 1, turns)
        ]
    path = out / "chats.jsonl"
    path.write_text("".join(json.dumps({"turns": c}) + "\n" for c in chats), encoding="utf-8")
    return str(path)


def encoded(task: Any, tokenizer: Any, path: str) -> Any:
    """The rows as training encodes them."""
    from kerasft.data import encode_rows, encoder, open_source

    source = open_source(path, task.fields(), {"messages": "turns"})
    return encode_rows(source.chunks(), encoder(task, tokenizer, task.reads), task)


def measured(feed: Any) -> dict[str, np.ndarray]:
    """Real tokens, positions and learned tokens of each batch of an epoch."""
    found = [
        (x["padding_mask"].sum(), x["padding_mask"].size, (y >= 0).sum())
        for x, y, *_ in feed.batches()
    ]
    real, size, learned = np.array(found, np.int64).T
    return {"real": real, "positions": size, "learned": learned}


def share(counts: dict[str, np.ndarray]) -> float:
    """Real tokens as a share of the positions of an epoch."""
    return float(counts["real"].sum() / counts["positions"].sum())


def values_of(rows: Any, whole: Any, task: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is told."""
    from kerasft.data import feed_of

    options = {"batch_size": args.batch_size, "seed": args.seed}
    packed_feed = feed_of(task, rows, (*NAMES, "document_ids"), **options)
    packed, plain = measured(packed_feed), measured(feed_of(task, rows, NAMES, **options))
    wide = measured(feed_of(task, rows, NAMES, **options, length=task.max_length))
    if int(packed["learned"].sum()) != int(plain["learned"].sum()):
        raise SystemExit("Packing lost or doubled learned tokens.")
    each = packed["real"] / packed["positions"]
    documents = [len(row) for batch in packed_feed.plan.epoch(0) for row in batch]
    return {
        "chats": len(rows),
        "tokens of a chat, median": float(np.median(whole.lengths)),
        "tokens of a chat, least": int(whole.lengths.min()),
        "tokens of a chat, most": int(whole.lengths.max()),
        "learned tokens that the cut keeps": float(rows.weights.sum() / whole.weights.sum()),
        "chats in a packed row, mean": float(np.mean(documents)),
        "packed: real tokens, of the plan": packed_feed.plan.fill(),
        "packed: real tokens, of the batches": share(packed),
        "packed: real tokens, emptiest batch": float(each.min()),
        "packed: real tokens a step": float(packed["real"].mean()),
        "packed: steps": len(each),
        "not packed, padded to the longest of a batch: real tokens": share(plain),
        "not packed, padded to the longest of a batch: real tokens a step": float(
            plain["real"].mean()
        ),
        "not packed: steps": len(plain["real"]),
        "not packed, padded to max_length: real tokens": share(wide),
    }


def main() -> int:
    """Count and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .jsonl files")
    parser.add_argument("--model", type=Path, required=True, help="folder with the tokenizer")
    parser.add_argument("--max-length", type=int, default=256, help="token ids in a row")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--turns", type=int, help="cut chats into chats of so many; an even number")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.turns is not None and (args.turns < 2 or args.turns % 2):
        parser.error("--turns is an even number, so that the assistant has the last word")

    from kerasft.backbones import load
    from kerasft.tasks import CausalLM

    tokenizer = load(args.model)[1]
    fixed = {"format": "chat", "overlong": "cut", "packing": True}
    task = CausalLM(max_length=args.max_length, **fixed)
    with tempfile.TemporaryDirectory() as folder:
        path = chats_of(args.data, args.turns, Path(folder))
        rows = encoded(task, tokenizer, path)
        whole = encoded(CausalLM(max_length=1 << 20, **fixed), tokenizer, path)
    values = values_of(rows, whole, task, args)
    key = "packed: real tokens, of the batches"
    part = f"-turns-{args.turns}" if args.turns else ""
    cut = f"cut into chats of {args.turns} turns" if args.turns else "one a conversation"
    full = values["tokens of a chat, least"] >= args.max_length
    told = " Each chat is cut and fills a row, so there was nothing to pack." if full else ""
    path = harness.record(
        f"packing-fill-{args.data.name}-{args.max_length}{part}",
        f"Real tokens as a share of the positions of an epoch: chats of {args.data.name}, {cut}, "
        f"in rows of {args.max_length} token ids, {args.batch_size} rows a batch, packed by "
        f"kerasft and not.{told}",
        values=values,
        bounds=[harness.Bound(key, values[key], ">=", 0.95)],
        seeds=[args.seed],
    )
    return harness.finish(path)


if __name__ == "__main__":
    sys.exit(main())
