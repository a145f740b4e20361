"""The one table of backbone families: a new family is one row.

A row names the KerasHub classes, the model types of Hugging Face that KerasHub (or a converter
of ours) turns into them, and what the heads of that family look like.
"""

from dataclasses import dataclass
from typing import Any

from kerasft._core.errors import InputError


@dataclass(frozen=True)
class HeadStyle:
    """What a class of Transformers with a head puts on the backbone of a family.

    Args:
        pooling: the vector that is read: `cls`, `last`, or `all`, which is one logit row a token.
        pooler: the backbone itself holds a trained dense layer on [CLS] (`pooled_output`).
        hidden: activation of a dense layer of the head's own before the logits, or None.
        bias: whether the logits have a bias.
        hidden_key, logits_key: names of the two layers in a Hugging Face checkpoint.
    """

    pooling: str = "cls"
    pooler: bool = False
    hidden: str | None = None
    bias: bool = True
    hidden_key: str = ""
    logits_key: str = "classifier"


_POOLED = HeadStyle(pooler=True)
_ROBERTA = HeadStyle(hidden="tanh", hidden_key="classifier.dense", logits_key="classifier.out_proj")
_ELECTRA = HeadStyle(hidden="gelu", hidden_key="classifier.dense", logits_key="classifier.out_proj")
_DISTIL = HeadStyle(hidden="relu", hidden_key="pre_classifier")
_DEBERTA = HeadStyle(hidden="gelu", hidden_key="pooler.dense")
_SCORE = HeadStyle(pooling="last", bias=False, logits_key="score")
_TAGS = HeadStyle(pooling="all")
_TAG_SCORE = HeadStyle(pooling="all", logits_key="score")
_ANSWERS = HeadStyle(pooling="all", logits_key="qa_outputs")


@dataclass(frozen=True)
class Family:
    """One row.

    Args:
        name: the family's name.
        backbone, tokenizer: class names in `keras_hub.models`.
        kind: `encoder`, `decoder` or `encoder-decoder`.
        head: the family's head for texts, `...ForSequenceClassification`; an encoder-decoder, which
            writes texts and does nothing else here, has none.
        model_types: values of `model_type` in a Hugging Face config.json.
        maskable: whether padding is masked; FNet has no mask, so its texts are padded to a
            fixed length, because padding moves its answers.
        packable: whether several texts can share a row with attention kept apart (`run_packed`).
        unpackable: why not, where not.
        shares_blocks: one block is run many times (ALBERT), so no method can treat blocks apart.
        config: arguments of the backbone's constructor that its `get_config` forgets.
        tags: the head of `...ForTokenClassification`.
        answers: the head of `...ForQuestionAnswering`, or None where there is no such class.
        masked_activation: of the head of its masked language model, where that is not the
            backbone's own.
        starts: what the decoder of an encoder-decoder begins with, as attributes of the tokenizer.
        scaled_logits: logits of tied embeddings are made of hidden states / sqrt(width) (T5).
    """

    name: str
    backbone: str
    tokenizer: str
    kind: str
    head: HeadStyle | None
    model_types: tuple[str, ...] = ()
    maskable: bool = True
    packable: bool = True
    unpackable: str = ""
    shares_blocks: bool = False
    config: tuple[str, ...] = ()
    tags: HeadStyle = _TAGS
    answers: HeadStyle | None = _ANSWERS
    masked_activation: str = ""
    starts: tuple[str, ...] = ()
    scaled_logits: bool = False


def _encoder(name, backbone, tokenizer, head, *model_types, **flags):
    return Family(name, backbone, tokenizer, "encoder", head, model_types, **flags)


def _decoder(name, backbone, tokenizer, *model_types, **flags):
    flags = {"tags": _TAG_SCORE} | flags
    return Family(name, backbone, tokenizer, "decoder", _SCORE, model_types, **flags)


def _encoder_decoder(name, backbone, tokenizer, *model_types, **flags):
    flags |= {
        "packable": False,
        "unpackable": "its two sequences have blocks of their own, and a source per target",
        "answers": None,
    }
    return Family(name, backbone, tokenizer, "encoder-decoder", None, model_types, **flags)


_EXACT = {"masked_activation": "gelu"}

FAMILIES = (
    _encoder("bert", "BertBackbone", "BertTokenizer", _POOLED, "bert"),
    _encoder("roberta", "RobertaBackbone", "RobertaTokenizer", _ROBERTA, "roberta", **_EXACT),
    _encoder(
        "xlm_roberta",
        "XLMRobertaBackbone",
        "XLMRobertaTokenizer",
        _ROBERTA,
        "xlm-roberta",
        **_EXACT,
    ),
    _encoder("distil_bert", "DistilBertBackbone", "DistilBertTokenizer", _DISTIL, "distilbert"),
    _encoder("albert", "AlbertBackbone", "AlbertTokenizer", _POOLED, "albert", shares_blocks=True),
    # Packable, although its positions are special: they are buckets of distances, and its blocks
    # take a mask between tokens.
    _encoder("deberta_v3", "DebertaV3Backbone", "DebertaV3Tokenizer", _DEBERTA, "deberta-v2"),
    _encoder("electra", "ElectraBackbone", "ElectraTokenizer", _ELECTRA, "electra", **_EXACT),
    _encoder(
        "f_net",
        "FNetBackbone",
        "FNetTokenizer",
        _POOLED,
        maskable=False,
        packable=False,
        unpackable="a Fourier transform mixes all tokens of a row, and there is no mask",
    ),
    _decoder("gpt2", "GPT2Backbone", "GPT2Tokenizer", "gpt2", tags=_TAGS),
    _decoder("opt", "OPTBackbone", "OPTTokenizer"),
    _decoder("llama", "LlamaBackbone", "LlamaTokenizer"),
    _decoder(
        "llama3", "Llama3Backbone", "Llama3Tokenizer", "llama", config=("tie_word_embeddings",)
    ),
    _decoder("mistral", "MistralBackbone", "MistralTokenizer", "mistral"),
    _decoder("qwen", "QwenBackbone", "QwenTokenizer", "qwen2"),
    _decoder("qwen3", "Qwen3Backbone", "Qwen3Tokenizer", "qwen3"),
    _decoder("gemma", "GemmaBackbone", "GemmaTokenizer", "gemma", "gemma2", answers=None),
    _encoder_decoder(
        "bart", "BartBackbone", "BartTokenizer", "bart", starts=("end_token_id", "start_token_id")
    ),
    _encoder_decoder(
        "t5", "T5Backbone", "T5Tokenizer", starts=("pad_token_id",), scaled_logits=True
    ),
)


def family_of(backbone: Any) -> Family:
    """Return the family of a backbone (or of its class name); `InputError` if there is none."""
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    for family in FAMILIES:
        if family.backbone == name:
            return family
    known = ", ".join(f.backbone for f in FAMILIES)
    raise InputError(f"kerasft works on these backbones: {known}. Received: {name}.")


def family_of_model_type(model_type: str) -> Family:
    """Return the family of a Hugging Face `model_type`; `InputError` if there is none."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(t for f in FAMILIES for t in f.model_types))
    raise InputError(
        "A Hugging Face checkpoint folder must be of one of these model types: "
        f"{known}. Received: model_type={model_type!r}. "
        "FNet, OPT and T5 are loaded from KerasHub presets."
    )
