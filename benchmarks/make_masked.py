"""Make tests/golden/masked: heads of masked language models on the golden encoders.

    python benchmarks/make_masked.py

Needs torch, transformers and safetensors. Each file holds the head's weights under the names that
`save_pretrained` gives them, the ids of texts with masks, and the logits at the masks by
Transformers, with the encoder of the golden folder of that name below the head.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as tr
from _golden_texts import SEED
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
FAMILIES = ("bert", "bert_tanh", "roberta", "xlm-roberta", "distilbert", "albert", "deberta-v2")
TEXTS = (
    "The film was {mask}, and I don't regret it!",
    "{mask} {mask} end of the story {mask}.",
    "这部电影很 {mask} 看。",
    "no mask",
)


def make_family(name: str, number: int) -> None:
    """One file."""
    folder = GOLDEN / name
    tokenizer = tr.AutoTokenizer.from_pretrained(folder, padding_side="right")
    config = tr.AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings = True
    model = tr.AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    stored = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(SEED + number)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = 0.2 * torch.randn(weight.shape, generator=generator)
            norm = weight.ndim == 1 and "norm" in key.lower() and key.endswith("weight")
            weight.copy_(noise + 1 if norm else noise)
        # A tied matrix has two names, of which a checkpoint keeps either.
        for key, weight in model.named_parameters(remove_duplicate=False):
            if key in stored:
                weight.copy_(torch.tensor(stored[key]))
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        whole = load_file(Path(saved) / "model.safetensors")
    head = {f"head/{key}": value for key, value in whole.items() if key not in stored}
    texts = [text.format(mask=tokenizer.mask_token) for text in TEXTS]
    # RoBERTa's own mask takes the space in front of it; that of a tiny tokenizer does not.
    bare = [text.replace(f" {tokenizer.mask_token}", tokenizer.mask_token) for text in texts]
    batch = tokenizer(bare, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits.numpy()
    ids = batch["input_ids"].numpy().astype("int32")
    at = np.argwhere(ids == tokenizer.mask_token_id)
    arrays = {"ids": ids, "real": batch["attention_mask"].numpy().astype("int32")}
    arrays |= {"logits": logits[at[:, 0], at[:, 1]]}
    target = GOLDEN / "masked" / f"{name}.npz"
    np.savez_compressed(target, texts=np.array(texts), **arrays, **head)
    print(name, target.stat().st_size, sorted(head))


def main() -> None:
    """Write all of them."""
    (GOLDEN / "masked").mkdir(exist_ok=True)
    for number, name in enumerate((*FAMILIES, "electra")):
        make_family(name, number)


if __name__ == "__main__":
    main()
