"""Tiny random backbones and tokenizers of every family, made without any download.

Two layers, 16 units, a vocabulary of a few dozen words (and all bytes, where a tokenizer needs
them). Everything follows from the seed, so two calls give the same weights.
"""

from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft.backbones import FAMILIES, Family
from kerasft.backbones._surgery import in_graph, steady_paths

WORDS = ("the", "film", "was", "good", "bad", "a", "story", "free", "prize", "call", "now", "you")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIGNS = ".,!?很好看不"
# Odd strings that every tokenizer has to survive and to answer the same after a reload.
ODD_TEXTS = (
    "the film was good",
    "",
    " ",
    "\t\n",
    "A very LONG story!!! " * 3,
    "很好看。不好看？",
    "cafe\u0301 Café ﬁ ｶﾞ 각",
    "👩\u200d💻 \ufeff\u00ad zero\u200bwidth",
    "مرحبا שלום",
    "\x00 null \x7f",
)

_ENCODER = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "max_sequence_length": 64,
    "dropout": 0.0,
}
_ROTARY = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "dropout": 0.0,
}
SIZES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_dim": 12},
    "electra": {"embedding_dim": 12},
    "deberta_v3": {"bucket_size": 8},
    "qwen3": {"head_dim": 6},
    "t5": {"key_value_dim": 6},
    "gemma": {"head_dim": 6},
}
_SPECIALS = {
    "roberta": ("<s>", "<pad>", "</s>", "<mask>"),
    "gpt2": ("<|endoftext|>",),
    "opt": ("<s>", "<pad>", "</s>"),
    "llama3": (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    "qwen": ("<|endoftext|>",),
    "qwen3": ("<|endoftext|>", "<|im_end|>"),
    # Pieces with a meaning of their own in SentencePiece models, in the order of their ids.
    "xlm_roberta": ("<unk>", "<s>", "</s>"),
    "albert": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "deberta_v3": ("[PAD]", "[CLS]", "[SEP]", "<unk>", "[MASK]"),
    "f_net": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "llama": ("<unk>", "<s>", "</s>"),
    "mistral": ("<unk>", "<s>", "</s>"),
    "gemma": ("<pad>", "<eos>", "<bos>", "<unk>"),
    "bart": ("<s>", "<pad>", "</s>", "<unk>"),
    "t5": ("<pad>", "</s>", "<unk>"),
}


def family(name: str | Family) -> Family:
    """The row of a family by its name."""
    return next(f for f in FAMILIES if name in (f, f.name))


def backbone(name: str | Family, seed: int = 0, **overrides: Any) -> Any:
    """A random backbone of a family.

    Args:
        name: the family's name, e.g. `bert`, or its row of `FAMILIES`.
        seed: seed of the weights.
        overrides: arguments of the KerasHub class, e.g. `dtype`, `dropout`, `num_layers`.

    Returns:
        A KerasHub backbone: 2 layers, 16 units, the vocabulary of `tokenizer(name)`.

    Example:
        >>> backbone("bert").num_layers
        2
    """
    stack.ensure()
    import keras_hub

    row = family(name)
    rotary = row.kind == "decoder" and row.name not in ("gpt2", "opt")
    options = dict(_ROTARY if rotary else _ENCODER) | SIZES.get(row.name, {})
    for lacking in {"f_net": ("num_heads",), "t5": ("max_sequence_length",)}.get(row.name, ()):
        options.pop(lacking)
    size = "vocab_size" if row.name == "electra" else "vocabulary_size"
    options |= {size: tokenizer(row).vocabulary_size(), "dtype": "float32"}
    made = steady_paths(getattr(keras_hub.models, row.backbone)(**(options | overrides)))
    randomize(made, seed)
    return made


def randomize(layer: Any, seed: int = 0, scale: float = 0.3) -> None:
    """Set random weights, so that none is 0 or 1: kernels N(0, scale), vectors not far from those
    of a new layer."""
    random = np.random.default_rng(seed)
    for variable in layer.weights:
        noise = random.standard_normal(variable.shape)
        if noise.ndim > 1:
            variable.assign((scale * noise).astype(np.float32))
            continue
        bias = variable.path.rsplit("/", 1)[-1] in ("bias", "beta")
        middle = 0.0 if bias else np.asarray(variable, np.float32)
        variable.assign((middle + 0.1 * noise).astype(np.float32))


def tokenizer(name: str | Family) -> Any:
    """A tokenizer of a family, with a vocabulary of a few dozen words.

    Args:
        name: the family's name, e.g. `bert`, or its row of `FAMILIES`.

    Returns:
        A KerasHub tokenizer that works in the graph.

    Example:
        >>> tokenizer("bert")(["the film"]).to_list()
        [[4, 5]]
    """
    stack.ensure()
    import keras_hub

    row = family(name)
    cls = getattr(keras_hub.tokenizers, row.tokenizer)
    specials = _SPECIALS.get(row.name, ())
    if issubclass(cls, keras_hub.tokenizers.WordPieceTokenizer):
        lowercase = row.name != "distil_bert"
        made = cls(vocabulary=wordpiece_vocabulary(), lowercase=lowercase, strip_accents=lowercase)
    elif issubclass(cls, keras_hub.tokenizers.BytePairTokenizer):
        vocabulary, merges = byte_pairs(specials)
        # KerasHub's Llama 3 takes tokens out of this set, and by default out of one that all share.
        own = {"misc_special_tokens": set(specials)} if row.name == "llama3" else {}
        made = cls(vocabulary=vocabulary, merges=merges, **own)
    else:
        made = cls(proto=sentencepiece_proto(specials))
    return in_graph(made)


def wordpiece_vocabulary() -> list[str]:
    """BERT's special tokens, words, letters that begin a word and letters inside one."""
    inner = [f"##{c}" for c in LETTERS]
    first = [c for c in LETTERS if c not in WORDS]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *SIGNS, *first, *inner, "[MASK]"]


def byte_pairs(specials: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """Special tokens, the 256 bytes and the words; the merges that make words of bytes."""
    names, merges = [*specials, *_byte_letters()], []
    for word in WORDS:
        left = "Ġ"
        for letter in word:
            if left + letter not in names:
                names.append(left + letter)
                merges.append(f"{left} {letter}")
            left += letter
    return {name: index for index, name in enumerate(names)}, merges


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: printable ones stand for themselves, others are moved up."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def sentencepiece_proto(specials: tuple[str, ...]) -> bytes:
    """A SentencePiece unigram model: special pieces, words, letters; the unknown is `<unk>`."""
    from sentencepiece import sentencepiece_model_pb2

    normal, unknown, control = 1, 2, 3
    model = sentencepiece_model_pb2.ModelProto()
    for piece in specials:
        kind = unknown if piece == "<unk>" else control
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for piece in [f"▁{word}" for word in WORDS]:
        model.pieces.add(piece=piece, score=-1.0, type=normal)
    for piece in ["▁", *LETTERS, *SIGNS]:
        model.pieces.add(piece=piece, score=-8.0, type=normal)
    model.trainer_spec.model_type = 1  # unigram
    model.trainer_spec.unk_id = specials.index("<unk>")
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = model.trainer_spec.pad_id = -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    return model.SerializeToString()


def features(backbone: Any, rows: int = 3, length: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of a backbone, int32 [rows, length]; row i ends i positions early.

    Args:
        backbone: a KerasHub backbone, or a model with the same inputs.

    Returns:
        `token_ids` and, where the backbone takes them, `padding_mask` and `segment_ids`; for an
        encoder-decoder those of its two sequences, the decoder's two places shorter.
    """
    random = np.random.default_rng(seed)
    places = np.arange(length)[None, :]
    mask = (places < length - np.arange(rows)[:, None]).astype(np.int32)
    known = {
        "token_ids": random.integers(4, 40, (rows, length)).astype(np.int32) * mask,
        "padding_mask": mask,
        "segment_ids": ((places >= length // 2) * mask).astype(np.int32),
    }
    names = tuple(i.name.split(":")[0] for i in backbone.inputs)
    for name, values in tuple(known.items()):
        known |= {f"encoder_{name}": values, f"decoder_{name}": values[:, 2:]}
    return {name: known[name] for name in names}
