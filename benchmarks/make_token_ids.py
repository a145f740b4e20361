"""Make tests/golden/token_ids.json: what Transformers' tokenizers make of awkward texts.

    python benchmarks/make_token_ids.py

Needs transformers and sentencepiece; kerasft itself needs neither of its answers to run. The
tokenizers are those of tests/golden.
"""

import json
from pathlib import Path

from transformers import AutoTokenizer

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
TEXTS = [
    "",
    " ",
    "a",
    " the film",
    "the film ",
    "the  film   was\t\tgood\n\nand bad\r\n end",
    "1234567 or 12 or 3.14159 or ١٢٣ or ²",
    "DON'T don't I'LL we've 'tis rock'n'roll 'S",
    "很好看，我喜欢！？（不）。　全角空格",
    "ＡＢＣ ａｂｃ １２３ ｶﾞ ガ",
    "Café CAFÉ cafe\u0301 ﬁlm straße ΟΔΟΣ İstanbul",
    "한국어 텍스트",
    "naïve\u200bresume\u00adly x\u00a0y\u2028z",
    "🙂🙃 👩‍👩‍👧 ok",
    "http://x.co/a_b?c=d&e=f#g <b>html</b> {json: [1, 2]}",
    "!!!...---   ,,, ((a))",
    "``quoted'' \"and\" 'so'",
    "ok\n",
    "\n\nok",
    "a" * 60 + " long",
]


def main() -> None:
    """Write the ids of every folder with a tokenizer, without special tokens."""
    found = {}
    for folder in sorted(path.parent for path in GOLDEN.glob("*/texts.json")):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found[folder.name] = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(ids)}" for name, ids in found.items())
    texts = json.dumps(TEXTS, ensure_ascii=False)
    text = f'{{"texts": {texts},\n"ids": {{\n{lines}\n}}}}\n'
    (GOLDEN / "token_ids.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
