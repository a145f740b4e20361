"""SentencePiece models: read, made from a tokenizer.json, and given a normalisation of ours."""

import base64
import binascii
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from kerasft._core.errors import InputError

_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6
_UNIGRAM, _BPE = 1, 2
# Kinds of pieces that a text can be made of.
USABLE = (_NORMAL, _USER)
_SPACE = "▁"
# White space that Transformers splits texts at before the pieces are looked up.
_BLANKS = "\t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_BLANKS += "".join(map(chr, range(0x2000, 0x200B)))
_UNUSED = ("Cn", "Co", "Cs")
# The first ids of XLM-RoBERTa are fairseq's, and its model file has three of its own instead.
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


def lowered(proto: bytes, lowercase: bool, strip_accents: bool) -> bytes:
    """Put lower-casing and the loss of accents into a model's own table of characters.

    Transformers does both in Python before the model sees the text; in the table they are done
    wherever the model goes: in the graph, in the export and in another library.
    """
    from sentencepiece import SentencePieceNormalizer

    model = parse_proto(proto, "the SentencePiece model")
    flags = {"add_dummy_prefix": False, "escape_whitespaces": False}
    flags["remove_extra_whitespaces"] = False
    own = None
    if model.normalizer_spec.precompiled_charsmap:
        own = SentencePieceNormalizer(model_proto=proto, **flags)
    signs = [c for c in map(chr, range(1, 0x110000)) if unicodedata.category(c) not in _UNUSED]
    after = [_without(sign, lowercase, strip_accents) for sign in signs]
    after = own.Normalize(after) if own else after
    rules = {"``": '"', "''": '"'} | {a: b for a, b in zip(signs, after) if a != b}
    rules |= dict.fromkeys(_BLANKS, " ")
    spec = _compiled(rules)
    model.normalizer_spec.precompiled_charsmap = spec.precompiled_charsmap
    model.normalizer_spec.name = "user_defined"
    return model.SerializeToString()


def _without(text: str, lowercase: bool, strip_accents: bool) -> str:
    if strip_accents:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.category(c).startswith("M"))
    return text.lower() if lowercase else text


def _compiled(rules: dict[str, str]) -> Any:
    from sentencepiece import SentencePieceNormalizer, sentencepiece_model_pb2

    def codes(text: str) -> str:
        return " ".join(f"{ord(c):X}" for c in text)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.tsv"
        path.write_text("".join(f"{codes(a)}\t{codes(b)}\n" for a, b in rules.items()))
        normalizer = SentencePieceNormalizer(rule_tsv=str(path))
        model = sentencepiece_model_pb2.ModelProto()
        model.ParseFromString(normalizer.serialized_model_proto())
    return model.normalizer_spec


def parse_proto(proto: bytes, source: str) -> Any:
    """The protocol buffer of a SentencePiece model; `InputError` if it is none."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(proto)
    except DecodeError:
        raise InputError(f"{source} is not a SentencePiece model.") from None
    return model


def read_proto(path: str) -> bytes:
    """The bytes of a SentencePiece model file; `InputError` if it is none."""
    proto = Path(path).read_bytes()
    if not parse_proto(proto, path).pieces:
        raise InputError(f"{path} is not a SentencePiece model: it holds no pieces.")
    return proto


def proto_of(state: dict[str, Any], path: str, fairseq: bool) -> bytes:
    """A SentencePiece model that does what a tokenizer.json says.

    Args:
        state: the content of tokenizer.json, with a Unigram model, or a BPE with byte fallback.
        path: the file's name, for messages.
        fairseq: its ids are XLM-RoBERTa's.
    """
    from sentencepiece import sentencepiece_model_pb2

    model, given = sentencepiece_model_pb2.ModelProto(), state["model"]
    unigram = given["type"] == "Unigram"
    pieces = given["vocab"] if unigram else _scored(given)
    unknown = pieces[given["unk_id"]][0] if unigram else given.get("unk_token") or "<unk>"
    if fairseq:
        own = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
        end = -1 if pieces[-1][0] == "<mask>" else None
        pieces, unknown = own + pieces[len(FAIRSEQ) : end], "<unk>"
    added = {t["content"]: t.get("special") for t in state.get("added_tokens") or []}
    for piece, score in pieces:
        kind = _kind(piece, unknown, added, unigram)
        model.pieces.add(piece=piece, score=score, type=kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = _UNIGRAM if unigram else _BPE
    trainer.byte_fallback = not unigram
    names = [piece for piece, _ in pieces]
    trainer.unk_id = names.index(unknown) if unknown in names else 0
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    steps = list(_steps(state.get("normalizer"))) + list(_steps(state.get("pre_tokenizer")))
    normalizer.name = "identity"
    normalizer.precompiled_charsmap = _charsmap(steps, path)
    kinds = {step.get("type") for step in steps}
    if unigram and not normalizer.precompiled_charsmap:
        normalizer.CopyFrom(_compiled(_plain_rules(kinds)))
    normalizer.add_dummy_prefix = _prefixed(steps)
    normalizer.remove_extra_whitespaces = unigram
    proto = model.SerializeToString()
    lower, strip = "Lowercase" in kinds, "StripAccents" in kinds
    return lowered(proto, lower, strip) if lower or strip else proto


def _scored(model: dict[str, Any]) -> list[tuple[str, float]]:
    """Pieces of a BPE in order of id; an earlier merge has a higher score."""
    rank: dict[str, int] = {}
    for index, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        rank.setdefault(left + right, index)
    last = len(model["merges"])
    order = sorted(model["vocab"].items(), key=lambda item: item[1])
    return [(piece, -float(rank.get(piece, last))) for piece, _ in order]


def _kind(piece: str, unknown: str, added: dict[str, bool], unigram: bool) -> int:
    if piece == unknown:
        return _UNKNOWN
    if piece in added:
        return _CONTROL if added[piece] else _USER
    byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
    return _BYTE if byte and not unigram else _NORMAL


def _steps(part: dict[str, Any] | None):
    """The parts of a normalizer or pre-tokenizer, sequences opened."""
    if not part:
        return
    inner = part.get("normalizers") or part.get("pretokenizers")
    if inner is None:
        yield part
    for each in inner or ():
        yield from _steps(each)


def _charsmap(steps: list[dict[str, Any]], path: str) -> bytes:
    for step in steps:
        if step.get("type") == "Precompiled":
            try:
                return base64.b64decode(step["precompiled_charsmap"] or "", validate=True)
            except (KeyError, TypeError, binascii.Error):
                raise InputError(f"{path}: its `precompiled_charsmap` is not base64.") from None
    return b""


def _plain_rules(kinds: set[str | None]) -> dict[str, str]:
    """A table for a tokenizer.json that has none: its white space, and NFC if it asks for that."""
    rules = dict.fromkeys(_BLANKS if "WhitespaceSplit" in kinds else "\n\r\t", " ")
    for sign in map(chr, range(0xC0, 0x3000)) if "NFC" in kinds else ():
        apart = unicodedata.normalize("NFD", sign)
        if apart != sign and unicodedata.normalize("NFC", apart) == sign:
            # As it falls apart at once, and with all but the last mark already put on.
            rules[apart] = rules[unicodedata.normalize("NFC", apart[:-1]) + apart[-1]] = sign
    return rules


def _prefixed(steps: list[dict[str, Any]]) -> bool:
    """Whether a space is put before the text."""
    for step in steps:
        if step.get("type") == "Prepend" and step.get("prepend") == _SPACE:
            return True
        if step.get("type") == "Metaspace":
            scheme = step.get("prepend_scheme")
            return scheme != "never" if scheme else step.get("add_prefix_space", True)
    return False
