"""The files of a KerasHub tokenizer as Transformers reads them."""

import base64
import json
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.backbones import _surgery
from kerasft.backbones.describe import template_of
from kerasft.backbones.huggingface.pieces import FAIRSEQ, USABLE, parse_proto
from kerasft.preprocessing import Template

_WORDPIECE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
# KerasHub's class -> the class in tokenizer_config.json and the name of the SentencePiece file.
_SENTENCEPIECE = {
    "XLMRobertaTokenizer": ("XLMRobertaTokenizer", "sentencepiece.bpe.model"),
    "AlbertTokenizer": ("AlbertTokenizer", "spiece.model"),
    "DebertaV3Tokenizer": ("DebertaV2Tokenizer", "spm.model"),
    "GemmaTokenizer": ("GemmaTokenizer", "tokenizer.model"),
    "MistralTokenizer": ("LlamaTokenizer", "tokenizer.model"),
    "LlamaTokenizer": ("LlamaTokenizer", "tokenizer.model"),
}
_BYTE_PAIRS = {
    "RobertaTokenizer": "RobertaTokenizer",
    "GPT2Tokenizer": "GPT2Tokenizer",
    "QwenTokenizer": "Qwen2Tokenizer",
    "Qwen3Tokenizer": "Qwen2Tokenizer",
    "Llama3Tokenizer": "PreTrainedTokenizerFast",
}
# Role in Transformers -> the attribute of KerasHub's tokenizer, by kind.
_ROLES = {"bos": "start_token", "eos": "end_token", "pad": "pad_token", "unk": "unk_token"}
_CLASSIC = {"cls": "start_token", "sep": "end_token", "pad": "pad_token", "mask": "mask_token"}


def write_tokenizer(folder: str, tokenizer: Any, max_length: int, segments: bool) -> None:
    """Write the vocabulary and tokenizer_config.json; tokenizer.json too but for WordPiece.

    Args:
        folder: a local folder.
        tokenizer: KerasHub's.
        max_length: the most tokens in a text.
        segments: the model reads segment ids of two kinds.
    """
    name = type(tokenizer).__name__
    config: dict[str, Any] = {"model_max_length": max_length, "padding_side": "right"}
    config["model_input_names"] = ["input_ids", "attention_mask"]
    if segments:
        config["model_input_names"].insert(1, "token_type_ids")
    if name in _WORDPIECE:
        config |= _write_wordpiece(folder, tokenizer)
    elif name in _SENTENCEPIECE:
        config |= _write_sentencepiece(folder, tokenizer)
    elif name in _BYTE_PAIRS:
        config |= _write_byte_pairs(folder, tokenizer)
    else:
        raise InputError(f"A {name} cannot be written as a tokenizer of Transformers.")
    files.write_json(files.join(folder, "tokenizer_config.json"), config)


def _write_wordpiece(folder: str, tokenizer: Any) -> dict[str, Any]:
    words = tokenizer.get_vocabulary()
    files.write_text(files.join(folder, "vocab.txt"), "".join(f"{word}\n" for word in words))
    return {
        "tokenizer_class": type(tokenizer).__name__,
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.split_on_cjk,
        "unk_token": tokenizer.oov_token,
        **_marks(tokenizer, _CLASSIC),
    }


def _write_sentencepiece(folder: str, tokenizer: Any) -> dict[str, Any]:
    name = type(tokenizer).__name__
    written_class, file = _SENTENCEPIECE[name]
    files.write_bytes(files.join(folder, file), tokenizer.proto)
    model = parse_proto(tokenizer.proto, file)
    pieces = [(p.piece, p.score) for p in model.pieces]
    unknown = next((p.piece for p in model.pieces if p.type == 2), "<unk>")
    special = [p.piece for p in model.pieces if p.type in (2, 3)]
    if name == "XLMRobertaTokenizer":
        pieces = [(p, 0.0) for p in FAIRSEQ] + pieces[3:] + [("<mask>", 0.0)]
        unknown, special = "<unk>", [*FAIRSEQ, "<mask>"]
    elif name == "DebertaV3Tokenizer" and tokenizer.mask_token_id == len(pieces):
        pieces, special = [*pieces, ("[MASK]", 0.0)], [*special, "[MASK]"]
    ids = {piece: index for index, (piece, _) in enumerate(pieces)}
    unigram = model.trainer_spec.model_type == 1
    state = _state(tokenizer, {token: ids[token] for token in special})
    if unigram:
        state |= _unigram_state(model, pieces, ids[unknown])
    else:
        state |= _bpe_state(model, pieces, unknown)
    files.write_json(files.join(folder, "tokenizer.json"), state)
    classic = name in ("XLMRobertaTokenizer", "AlbertTokenizer", "DebertaV3Tokenizer")
    config = {"tokenizer_class": written_class, "unk_token": unknown}
    if classic:
        # The model's own table does what Transformers would do before it.
        config |= {"do_lower_case": False, "keep_accents": True}
        mask = {"mask_token": "<mask>" if name == "XLMRobertaTokenizer" else "[MASK]"}
        return config | _marks(tokenizer, _ROLES | _CLASSIC) | mask
    return config | _decoder_marks(tokenizer)


def _write_byte_pairs(folder: str, tokenizer: Any) -> dict[str, Any]:
    vocabulary = {str(token): int(index) for token, index in tokenizer.vocabulary.items()}
    merges = [m for m in tokenizer.merges if not m.startswith("#version")]
    special = {t: vocabulary[t] for t in sorted(set(tokenizer.unsplittable_tokens or ()))}
    files.write_text(files.join(folder, "vocab.json"), json.dumps(vocabulary, ensure_ascii=False))
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    files.write_text(files.join(folder, "merges.txt"), text)
    splitting = _surgery.splitting_of(tokenizer)
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
        for p in splitting.patterns
    ]
    steps.append(_byte_level(tokenizer.add_prefix_space))
    state = _state(tokenizer, special) | {
        "normalizer": {"type": splitting.form} if splitting.form else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": _byte_level(True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": splitting.whole,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    files.write_json(files.join(folder, "tokenizer.json"), state)
    name = type(tokenizer).__name__
    config = {"tokenizer_class": _BYTE_PAIRS[name], "add_prefix_space": tokenizer.add_prefix_space}
    if name == "RobertaTokenizer":
        return config | _marks(tokenizer, _ROLES | _CLASSIC) | {"unk_token": "<unk>"}
    return config | _decoder_marks(tokenizer)


def _byte_level(prefix_space: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix_space,
        "trim_offsets": True,
        "use_regex": False,
    }


def _marks(tokenizer: Any, roles: dict[str, str]) -> dict[str, str]:
    """Special tokens by their role in Transformers."""
    found = {f"{role}_token": getattr(tokenizer, name, None) for role, name in roles.items()}
    return {key: token for key, token in found.items() if token is not None}


def _decoder_marks(tokenizer: Any) -> dict[str, Any]:
    template = template_of(tokenizer)
    found: dict[str, Any] = _marks(tokenizer, _ROLES)
    if template.pad < tokenizer.vocabulary_size():
        found["pad_token"] = tokenizer.id_to_token(template.pad)
    found["add_bos_token"] = bool(template.start)
    found["add_eos_token"] = bool(template.end)
    return found


# --- tokenizer.json -----------------------------------------------------------------------------


def _state(tokenizer: Any, special: dict[str, int]) -> dict[str, Any]:
    """The parts of a tokenizer.json that do not depend on the kind of model."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": index, "content": token, **flags, "special": True}
        for token, index in sorted(special.items(), key=lambda item: item[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": _post_processor(tokenizer, template_of(tokenizer)),
    }


def _post_processor(tokenizer: Any, template: Template) -> dict[str, Any] | None:
    names = {
        i: tokenizer.id_to_token(i) for i in {*template.start, *template.separator, *template.end}
    }

    def marks(ids: tuple[int, ...], segment: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": names[i], "type_id": segment}} for i in ids]

    def text(name: str, segment: int) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": name, "type_id": segment}}]

    second = template.second_segment
    first = marks(template.start, 0) + text("A", 0)
    pair = first + marks(template.separator, 0) + text("B", second) + marks(template.end, second)
    special = {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items()}
    return {
        "type": "TemplateProcessing",
        "single": first + marks(template.end, 0),
        "pair": pair,
        "special_tokens": special,
    }


def _unigram_state(model: Any, pieces: list[tuple[str, float]], unknown: int) -> dict[str, Any]:
    table = model.normalizer_spec.precompiled_charsmap
    text = base64.b64encode(table).decode("ascii")
    steps = [{"type": "Precompiled", "precompiled_charsmap": text}] if table else []
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    if not model.normalizer_spec.add_dummy_prefix:
        space["prepend_scheme"] = "never"
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, space],
        },
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [list(piece) for piece in pieces],
            "byte_fallback": False,
        },
    }


def _bpe_state(model: Any, pieces: list[tuple[str, float]], unknown: str) -> dict[str, Any]:
    steps = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    if model.normalizer_spec.add_dummy_prefix:
        steps.insert(0, {"type": "Prepend", "prepend": "▁"})
    decoders = [steps[-1] | {"pattern": {"String": "▁"}, "content": " "}]
    decoders += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {piece: index for index, (piece, _) in enumerate(pieces)},
            "merges": _merges(model),
        },
    }


def _merges(model: Any) -> list[list[str]]:
    """Every way in which two pieces make a third, in the order in which SentencePiece makes it."""
    scores = {p.piece: p.score for p in model.pieces if p.type in USABLE}
    found = []
    for index, (piece, score) in enumerate(scores.items()):
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                found.append((-score, index, [piece[:cut], piece[cut:]]))
    return [pair for _, _, pair in sorted(found, key=lambda item: item[:2])]
