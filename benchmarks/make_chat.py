"""Make tests/golden/chat.json: chats as Transformers renders them.

    python benchmarks/make_chat.py MODEL

MODEL is a folder or name of SmolLM2-135M-Instruct, whose own template gives `smollm2`; `chatml` is
that of ChatML, which has no default system message. Needs transformers; kerasft itself does not.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"


def chat(*turns: str) -> list[dict]:
    """Messages of user and assistant in turns; a first one after "system: " is the system's."""
    system = [t.removeprefix("system: ") for t in turns if t.startswith("system: ")]
    spoken = [t for t in turns if not t.startswith("system: ")]
    messages = [{"role": "system", "content": text} for text in system]
    roles = ("user", "assistant")
    return messages + [{"role": roles[i % 2], "content": t} for i, t in enumerate(spoken)]


CHATS = [
    chat("Hi", "Hello! How can I help?"),
    chat("system: Answer in one word.", "Capital of France?", "Paris", "Of Spain?", "Madrid"),
    chat("system: 你是客服。", "我的订单在哪里？\n谢谢", "请稍等 🙂"),
    chat("  spaces  around  ", "\n\nkept\n", "", "x = {}\n\tif a: print('{}')"),
    chat("system: ", "What?"),
]


def main() -> None:
    """Render each chat, with what stands before an answer where it does not end with one."""
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    rows = []
    for messages in CHATS:
        prompt = messages[-1]["role"] != "assistant"
        row = {"messages": messages, "prompt": prompt}
        for name, template in (("smollm2", tokenizer.chat_template), ("chatml", CHATML)):
            row[name] = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=prompt, chat_template=template
            )
        rows.append(row)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (GOLDEN / "chat.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
