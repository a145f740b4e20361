"""Write tiny tokenizers in the files that real Hugging Face folders hold."""

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece as spm
from _golden_texts import corpus
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel as ByteLevelProcessor
from tokenizers.processors import Sequence, TemplateProcessing
from transformers import AutoTokenizer

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
BERT_WORDS = [
    "the",
    "film",
    "was",
    "good",
    "bad",
    "ugly",
    "and",
    "movie",
    "a",
    "i",
    "end",
    "story",
    "very",
    "like",
    "is",
    "of",
    "it",
    "free",
    "cafe",
    "zurich",
    "naive",
    "re",
    "##sume",
    "##ly",
    "say",
    "they",
    "don",
    "regret",
    "dollars",
    "long",
    "http",
]
CJK = "这部电影很好看我喜欢不吗"


def write_json(path: Path, value: Any) -> None:
    """JSON with two spaces and UTF-8."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def wordpiece(folder: Path, lower: bool = True, kind: str = "BertTokenizer") -> None:
    """vocab.txt and tokenizer_config.json, as the folders of BERT hold them."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + BERT_WORDS
    words += list("!%'(),.:;?/，。") + list(CJK) + [c for c in letters if c not in words]
    words += [f"##{c}" for c in letters]
    if not lower:
        words += ["The", "Caf", "Z", "##ü", "##é", "na", "##ï", "résumé", "In", "I", "A", "FREE"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)) + "\n", encoding="utf-8")
    config = {
        "do_lower_case": lower,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "tokenize_chinese_chars": True,
        "strip_accents": None,
        "tokenizer_class": kind,
        "model_max_length": 512,
    }
    write_json(folder / "tokenizer_config.json", config)


def byte_bpe(
    folder: Path,
    specials: list[str],
    config: dict[str, Any],
    *,
    split: str | None = None,
    first: bool = True,
    size: int = 320,
    nfc: bool = False,
    digits: bool = False,
    begin: str | None = None,
    files: tuple[str, ...] = ("vocab.json", "merges.txt", "tokenizer.json"),
) -> None:
    """Byte-level BPE; `first` puts the special tokens before the bytes, else after all."""
    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    steps += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps += [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if steps[1:] else steps[0]
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials if first else [],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tokenizer.post_processor = _begin(tokenizer, begin)
    _write_bpe(folder, tokenizer, files)
    write_json(folder / "tokenizer_config.json", config)


def _begin(tokenizer: Tokenizer, token: str | None):
    """The post-processor that puts `token` before a text, as Llama 3 does, or nothing."""
    plain = ByteLevelProcessor(trim_offsets=False)
    if token is None:
        return plain
    template = TemplateProcessing(
        single=f"{token}:0 $A:0",
        pair=f"{token}:0 $A:0 {token}:1 $B:1",
        special_tokens=[(token, tokenizer.token_to_id(token))],
    )
    return Sequence([plain, template])


def _write_bpe(folder: Path, tokenizer: Tokenizer, files: tuple[str, ...]) -> None:
    state = json.loads(tokenizer.to_str())
    if "tokenizer.json" in files:
        write_json(folder / "tokenizer.json", state)
    if "vocab.json" in files:
        write_json(folder / "vocab.json", state["model"]["vocab"])
        lines = ["#version: 0.2"] + [" ".join(pair) for pair in state["model"]["merges"]]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentencepiece(folder: Path, name: str, config: dict[str, Any], **options: Any) -> None:
    """Train a SentencePiece model and write it under the name that the hub uses."""
    out = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        if options.get("normalization_rule_name") == "user_defined":
            # A tab becomes a space, as in nmt_nfkc, whose whole table would weigh 240 kB.
            rules.write("9\t20\n")
            rules.flush()
            options["normalization_rule_tsv"] = rules.name
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()),
            model_writer=out,
            num_threads=1,
            minloglevel=2,
            hard_vocab_limit=False,
            character_coverage=1.0,
            **options,
        )
    proto = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
    proto.normalizer_spec.normalization_rule_tsv = ""
    (folder / name).write_bytes(proto.SerializeToString(deterministic=True))
    write_json(folder / "tokenizer_config.json", config)


def _marks(**tokens: str) -> dict[str, str]:
    return {f"{key}_token": value for key, value in tokens.items()}


def xlm_roberta(folder: Path) -> None:
    """sentencepiece.bpe.model with <unk> <s> </s> first and SentencePiece's own nmt_nfkc."""
    config = _marks(bos="<s>", eos="</s>", sep="</s>", cls="<s>", unk="<unk>", pad="<pad>")
    config |= {"mask_token": "<mask>", "tokenizer_class": "XLMRobertaTokenizer"}
    sentencepiece(folder, "sentencepiece.bpe.model", config, vocab_size=110, model_type="unigram")


def albert(folder: Path) -> None:
    """spiece.model: <pad> <unk> [CLS] [SEP] [MASK]; Transformers lowers and strips before it."""
    config = _marks(bos="[CLS]", eos="[SEP]", sep="[SEP]", cls="[CLS]", unk="<unk>", pad="<pad>")
    config |= {"mask_token": "[MASK]", "do_lower_case": True, "keep_accents": False}
    config |= {"remove_space": True, "tokenizer_class": "AlbertTokenizer"}
    sentencepiece(
        folder,
        "spiece.model",
        config,
        vocab_size=105,
        model_type="unigram",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        normalization_rule_name="user_defined",
    )


def deberta(folder: Path) -> None:
    """spm.model of DeBERTa-v3: [PAD] [CLS] [SEP] [UNK] first, [MASK] one past the end."""
    config = {"do_lower_case": False, "vocab_type": "spm", "tokenizer_class": "DebertaV2Tokenizer"}
    sentencepiece(
        folder,
        "spm.model",
        config,
        vocab_size=110,
        model_type="unigram",
        pad_id=0,
        pad_piece="[PAD]",
        bos_id=1,
        bos_piece="[CLS]",
        eos_id=2,
        eos_piece="[SEP]",
        unk_id=3,
        unk_piece="[UNK]",
        normalization_rule_name="user_defined",
    )


def gemma(folder: Path) -> None:
    """tokenizer.model: BPE with bytes, <pad> <eos> <bos> <unk>, no space put before the text."""
    config = _marks(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>")
    config |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "GemmaTokenizer"}
    sentencepiece(
        folder,
        "tokenizer.model",
        config,
        vocab_size=390,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        eos_piece="<eos>",
        bos_piece="<bos>",
        control_symbols=["<mask>"],
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
    )


def mistral(folder: Path) -> None:
    """tokenizer.model of Mistral and Llama 2: BPE with bytes, <unk> <s> </s>."""
    config = _marks(bos="<s>", eos="</s>", unk="<unk>", pad="</s>")
    config |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    sentencepiece(
        folder,
        "tokenizer.model",
        config | {"legacy": True},
        vocab_size=385,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
    )


def mistral_json(folder: Path) -> None:
    """tokenizer.json beside tokenizer.model, as Mistral's folders have it.

    Transformers 5 alone reads such a tokenizer.model without the space that SentencePiece puts
    before a text; the hub's tokenizer.json holds that space as a normaliser.
    """
    loaded = AutoTokenizer.from_pretrained(folder)
    state = json.loads(loaded.backend_tokenizer.to_str())
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, space]
    state["normalizer"] = {"type": "Sequence", "normalizers": steps}
    state["pre_tokenizer"] = None
    write_json(folder / "tokenizer.json", state)


def roberta(folder: Path) -> None:
    """<s> <pad> </s> <unk> first, <mask> last."""
    config = _marks(bos="<s>", eos="</s>", sep="</s>", cls="<s>", unk="<unk>", pad="<pad>")
    config |= {"mask_token": "<mask>", "add_prefix_space": False}
    config |= {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    byte_bpe(
        folder,
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        config,
        files=("vocab.json", "merges.txt"),
    )


def gpt2(folder: Path) -> None:
    """<|endoftext|> last, which is also what pads here."""
    end = "<|endoftext|>"
    config = _marks(bos=end, eos=end, unk=end, pad=end) | {"tokenizer_class": "GPT2Tokenizer"}
    byte_bpe(folder, [end], config | {"model_max_length": 1024}, first=False)


def llama3(folder: Path) -> None:
    """tokenizer.json alone; <|begin_of_text|> before every text; digits in threes."""
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"]
    config = _marks(bos=specials[0], eos=specials[1], pad=specials[3])
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 131072}
    byte_bpe(
        folder,
        specials,
        config,
        split=LLAMA3_SPLIT,
        first=False,
        begin=specials[0],
        files=("tokenizer.json",),
    )


def smollm(folder: Path) -> None:
    """tokenizer.json of SmolLM2: nothing before a text, single digits."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    config = _marks(bos=specials[1], eos=specials[2], pad=specials[2], unk=specials[0])
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    byte_bpe(folder, specials, config, digits=True, files=("tokenizer.json",))


def qwen(folder: Path) -> None:
    """vocab.json, merges.txt and tokenizer.json of Qwen 2 and 3: NFC, single digits, no start."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    config = {"add_bos_token": False, "bos_token": None, "tokenizer_class": "Qwen2Tokenizer"}
    config |= _marks(eos=specials[2], pad=specials[0])
    byte_bpe(folder, specials, config, split=QWEN_SPLIT, first=False, nfc=True)


WRITERS: dict[str, Callable[[Path], None]] = {
    "bert": wordpiece,
    "bert_tanh": wordpiece,
    "distilbert": lambda folder: wordpiece(folder, False, "DistilBertTokenizer"),
    "electra": lambda folder: wordpiece(folder, True, "ElectraTokenizer"),
    "roberta": roberta,
    "xlm-roberta": xlm_roberta,
    "albert": albert,
    "deberta-v2": deberta,
    "gpt2": gpt2,
    "llama": llama3,
    "smollm2": smollm,
    "qwen2": qwen,
    "qwen3": qwen,
    "gemma": gemma,
    "gemma2": gemma,
    "mistral": mistral,
    "bert_tags": wordpiece,
    "roberta_answers": roberta,
}
