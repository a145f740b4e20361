"""Byte-level BPE tokenizers of checkpoint folders: vocabulary, merges, and how words are cut."""

from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.backbones.words import (
    DIGITS_SPLIT,
    GPT2_SPLIT,
    Splitting,
    check_pattern,
    default_splitting,
)

_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
_RESERVED = "<|reserved_special_token_"


def is_byte_level(state: dict[str, Any]) -> bool:
    """Whether a tokenizer.json is a BPE over bytes, and not over characters as SentencePiece's."""
    model = state.get("model") or {}
    return model.get("type") == "BPE" and not model.get("byte_fallback")


def build(there: Any, cls: type) -> tuple[Any, Splitting]:
    """The tokenizer of a folder with tokenizer.json, or vocab.json and merges.txt.

    Args:
        there: `tokenizers.TokenizerFiles`.
        cls: KerasHub's class.

    Returns:
        (tokenizer, how it cuts texts into words).
    """
    vocabulary, merges = _read(there)
    added = there.added()
    vocabulary |= added
    special = [t for t in added if not t.startswith(_RESERVED)]
    options: dict[str, Any] = {"add_prefix_space": _prefix_space(there)}
    if cls.__name__ == "Llama3Tokenizer":
        end = there.token("eos") or _named(there, vocabulary, "eos")
        options["eos_token"] = end
        options["bos_token"] = there.token("bos") or end
        options["misc_special_tokens"] = set(special)
    elif special:
        options["unsplittable_tokens"] = special
    tokenizer = cls(vocabulary=vocabulary, merges=merges, **options)
    return tokenizer, splitting_of_state(there, cls.__name__)


def _read(there: Any) -> tuple[dict[str, int], list[str]]:
    if is_byte_level(there.state):
        model = there.model()
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        return dict(model["vocab"]), merges
    if not there.has("merges.txt"):
        raise InputError(
            f"There is no file {there.path('merges.txt')}, which belongs to vocab.json."
        )
    text = files.read_bytes(there.path("merges.txt")).decode("utf-8")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    return dict(files.read_json(there.path("vocab.json"))), merges


def _named(there: Any, vocabulary: dict[str, int], name: str) -> str:
    """A special token that tokenizer_config.json does not name: the usual ones are tried."""
    for token in ("</s>", "<|endoftext|>", "<|end_of_text|>"):
        if token in vocabulary:
            return token
    raise InputError(
        f"{there.path('tokenizer_config.json')} must name the `{name}_token`. Received: none."
    )


def _prefix_space(there: Any) -> bool:
    steps = _opened(there.state.get("pre_tokenizer"), "pretokenizers")
    given = [s.get("add_prefix_space", False) for s in steps if s.get("type") == "ByteLevel"]
    return bool(there.settings.get("add_prefix_space", any(given)))


def splitting_of_state(there: Any, class_name: str) -> Splitting:
    """How tokenizer.json cuts texts; without one, as the tokenizers of the class do.

    Raises:
        InputError: if TensorFlow cannot do it.
    """
    if not is_byte_level(there.state):
        return default_splitting(class_name)
    path = there.path("tokenizer.json")
    patterns: list[str] = []
    for step in _opened(there.state.get("pre_tokenizer"), "pretokenizers"):
        patterns += _patterns(step, path)
    for pattern in patterns:
        check_pattern(pattern, path)
    forms = [s.get("type") for s in _opened(there.state.get("normalizer"), "normalizers")]
    if len(forms) > 1 or not set(forms) <= set(_FORMS):
        raise InputError(
            f"{path}: a byte-level tokenizer may have one of {', '.join(_FORMS)} as its "
            f"normalizer. Received: {', '.join(map(str, forms))}."
        )
    whole = bool(there.model().get("ignore_merges", False))
    return Splitting(tuple(patterns), "".join(forms), whole)


def _opened(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if not part:
        return []
    return [s for each in part[inner] for s in _opened(each, inner)] if inner in part else [part]


def _patterns(step: dict[str, Any], path: str) -> list[str]:
    """The regular expressions of one pre-tokenizer."""
    kind = step.get("type")
    if kind == "ByteLevel":
        return [GPT2_SPLIT] if step.get("use_regex", True) else []
    if kind == "Digits":
        return [DIGITS_SPLIT if step.get("individual_digits") else DIGITS_SPLIT + "+"]
    isolated = step.get("behavior") == "Isolated" and not step.get("invert")
    kept = step.get("behavior") == "Removed" and step.get("invert")
    if kind == "Split" and "Regex" in step.get("pattern", {}) and (isolated or kept):
        return [step["pattern"]["Regex"]]
    raise InputError(
        f"{path}: kerasft knows the pre-tokenizers ByteLevel, Digits and Split (isolated, by a "
        f"Regex) of byte-level tokenizers. Received: {kind!r}."
    )
