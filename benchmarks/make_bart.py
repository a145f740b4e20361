"""Write the golden folder of a tiny BART: what Transformers answers, and writes by greedy search.

    python benchmarks/make_bart.py

It needs torch and transformers, and the folder of RoBERTa (`make_golden.py`), whose tokenizer it
shares.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as tr

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
TEXTS = ["The film was good.", "bad", "a very long story, and I did not like it: café 很好看!"]
TARGETS = ["good", "it was bad, and ugly", "The end."]
NEW = 8


def main() -> None:
    """config.json, model.safetensors, the tokenizer's files and seq2seq.npz."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=GOLDEN / "bart")
    folder = parser.parse_args().out
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDEN / "roberta" / name, folder / name)
    settings = {"tokenizer_class": "BartTokenizer", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    words = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    config = tr.BartConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=64,
        bos_token_id=words["<s>"],
        pad_token_id=words["<pad>"],
        eos_token_id=words["</s>"],
        decoder_start_token_id=words["</s>"],
        forced_eos_token_id=None,
    )
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = tr.BartForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            one = "layer_norm.weight" in name or "layernorm_embedding.weight" in name
            # Places that weigh more than tokens, so that it does not say one token for ever.
            scale = 1.5 if "embed_positions" in name else 0.3
            weight.copy_(scale * torch.randn(weight.shape) + float(one))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer = tr.AutoTokenizer.from_pretrained(folder)
    source = tokenizer(TEXTS, padding=True, return_tensors="pt")
    target = tokenizer(TARGETS, padding=True, return_tensors="pt")
    start = torch.full((len(TEXTS), 1), config.decoder_start_token_id)
    read = torch.cat([start, target.input_ids[:, :-1]], dim=1)
    # A decoder need not read the end of a text: nothing is learned behind it.
    mask = target.attention_mask
    read = torch.where(mask > 0, read, config.pad_token_id)
    with torch.no_grad():
        logits = model(**source, decoder_input_ids=read, decoder_attention_mask=mask).logits
        begun = torch.cat([start, torch.full_like(start, config.bos_token_id)], dim=1)
        written = model.generate(
            **source,
            decoder_input_ids=begun,
            max_new_tokens=NEW,
            do_sample=False,
            num_beams=1,
            eos_token_id=None,
        )[:, 2:]
    arrays = {
        "token_ids": source.input_ids,
        "padding_mask": source.attention_mask,
        "decoder_token_ids": read,
        "decoder_padding_mask": mask,
        "learned": target.input_ids,
        "written": written,
    }
    arrays = {name: value.numpy().astype("int32") for name, value in arrays.items()}
    np.savez_compressed(folder / "seq2seq.npz", logits=logits.numpy(), **arrays)
    both = {"text": TEXTS, "target": TARGETS}
    text = json.dumps(both, indent=2, ensure_ascii=False) + "\n"
    (folder / "rows.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
