"""How a text becomes the words whose pieces are looked up, in the graph.

KerasHub's own code differs from what the models were trained with: it case-folds by NFKC (so that
a full-width comma becomes another token), takes only ASCII for white space, and splits every
byte-level BPE by GPT-2's pattern, also Llama 3's and Qwen's, which cut numbers differently.
"""

from dataclasses import dataclass
from typing import Any

from kerasft._core.errors import InputError

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
DIGITS_SPLIT = r"\p{N}"

# Signs of the private use planes, which no text is expected to hold: MARK cuts, the others stand
# for special tokens while a text is split.
MARK = "\U000f1000"
_SPECIAL_FIRST = 0xF0000
_INNER_MARKS = r"\x{F0000}-\x{F1000}"
_SPECIAL_CLASS = r"[\x{F0000}-\x{F0FFF}]"
_BREAKS = r"\r\n"
_BLANKS = r"\t\v\f\x{85}\p{Z}"
WHITE = f"[{_BREAKS}{_BLANKS}]"

_PUNCTUATION = r"[!-/:-@\[-`{-~]|\p{P}"
_CJK = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}"
    r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
)


@dataclass(frozen=True)
class Splitting:
    """How a byte-level BPE tokenizer cuts a text into words.

    Args:
        patterns: regular expressions of the `tokenizers` library, one after the other; every
            match is a word, and so is what lies between matches.
        form: Unicode normal form that is made first, or "".
        whole: a word that is a piece itself stays whole, whatever the merges say (Llama 3).
    """

    patterns: tuple[str, ...] = (GPT2_SPLIT,)
    form: str = ""
    whole: bool = False


def default_splitting(tokenizer_class: str) -> Splitting:
    """How the tokenizers of a KerasHub class split, as their models were trained."""
    if tokenizer_class == "Llama3Tokenizer":
        return Splitting((LLAMA3_SPLIT,), whole=True)
    if tokenizer_class in ("QwenTokenizer", "Qwen3Tokenizer"):
        return Splitting((QWEN_SPLIT,), "NFC")
    return Splitting()


def bert_words(text: Any, lowercase: bool, strip_accents: bool, split_on_cjk: bool) -> Any:
    """Words of BERT's own basic tokenizer.

    Control characters go, accents and capitals too if asked for; words end at white space, and
    punctuation (and every Chinese character) is a word of its own.

    Args:
        text: string [batch].

    Returns:
        Ragged string [batch, (words)].
    """
    from kerasft._core.ragged import regex_split

    text = bert_plain(text, lowercase, strip_accents, split_on_cjk)
    return regex_split(text, " |" + _PUNCTUATION, _PUNCTUATION)


def bert_plain(text: Any, lowercase: bool, strip_accents: bool, split_on_cjk: bool) -> Any:
    """A text as BERT splits it: cleaned, lowered, with spaces for all white space.

    It can be made character by character: joined, the answers are the answer for the whole text,
    but for the order of marks on one letter.
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    text = tf.strings.regex_replace(text, r"[\t\n\r]", " ")
    text = tf.strings.regex_replace(text, r"[\x00\x{FFFD}\p{C}]", "")
    text = tf.strings.regex_replace(text, r"\p{Z}", " ")
    if split_on_cjk:
        text = tf.strings.regex_replace(text, _CJK, r" \0 ")
    if strip_accents:
        text = tf.strings.regex_replace(tf_text.normalize_utf8(text, "NFD"), r"\p{Mn}", "")
    if lowercase:
        # The only letter that TensorFlow lowers by its place in the word and BERT does not.
        text = tf.strings.regex_replace(text, "Σ", "σ")
        text = tf.strings.lower(text, encoding="utf-8")
    return text


def bert_alone(plain: Any) -> Any:
    """Whether a character, as `bert_plain` makes it, is a word of its own: bool."""
    import tensorflow as tf

    return tf.strings.regex_full_match(plain, f" .+ |{_PUNCTUATION}")


def bpe_words(text: Any, splitting: Splitting, specials: tuple[str, ...] = ()) -> Any:
    """Words of a byte-level BPE; a special token is one word, written as its `sign`.

    Args:
        text: string [batch].

    Returns:
        Ragged string [batch, (words)]; joined, the words are the text.
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    from kerasft._core import ragged

    if splitting.form:
        text = tf_text.normalize_utf8(text, splitting.form)
    for index, token in enumerate(specials):
        text = tf.strings.regex_replace(text, _escape(token), sign(index))
    words, splits = text, tf.range(tf.size(text, out_type=tf.int64) + 1)
    for pattern in splitting.patterns:
        find, cut, blank = _for_re2(pattern)
        marked = tf.strings.regex_replace(words, cut, rf"\1{MARK}\2\3") if blank else words
        parts = ragged.regex_split(marked, find, find)
        parts = ragged.masked(parts, (parts.values != MARK) & (parts.values != ""))
        words, splits = parts.flat_values, tf.gather(parts.row_splits, splits)
    return ragged.of_splits(words, splits)


def sign(index: int) -> str:
    """The sign that stands for a special token while a text is split."""
    return chr(_SPECIAL_FIRST + index)


def check_pattern(pattern: str, source: str) -> None:
    """`InputError` if TensorFlow cannot split by a pattern."""
    import tensorflow as tf

    try:
        tf.strings.regex_replace("", _for_re2(pattern)[0], "")
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        raise InputError(
            f"{source}: TensorFlow cannot split texts by the pattern of this tokenizer. "
            f"Received: {pattern!r} ({str(error).splitlines()[0][:120]})."
        ) from None


def _for_re2(pattern: str) -> tuple[str, str, bool]:
    r"""A pattern as RE2 takes it, where to cut first, and whether to cut at all.

    RE2 has no lookahead. `\s+(?!\S)` takes a run of white space but for its last sign where a word
    follows; so MARK is put before that sign, and `\s+` cannot pass it. Where the pattern itself
    takes runs that end in a line break, those are not cut. RE2's `\s` is ASCII: it is spelled out.
    """
    ahead = r"|\s+(?!\S)|\s+"
    blank = pattern.endswith(ahead)
    if blank:
        pattern = pattern.removesuffix(ahead) + r"|\s+"
    if "(?!" in pattern or "(?=" in pattern or "(?<" in pattern:
        raise ValueError("it looks ahead or behind")
    last = _BLANKS if "[" + _BREAKS + "]" in pattern else _BREAKS + _BLANKS
    every = _BREAKS + _BLANKS
    cut = f"([{every}]+)([{last}])([^{every}{_INNER_MARKS}])"
    return f"{_SPECIAL_CLASS}|{_spelled_out(pattern)}", cut, blank


def _spelled_out(pattern: str) -> str:
    r"""`\s` and `\S` by their signs, and the marks taken out of every `[^...]`."""
    every, out, index, negated, inside = _BREAKS + _BLANKS, [], 0, False, False
    while index < len(pattern):
        step = 2 if pattern[index] == "\\" else 1
        piece = pattern[index : index + step]
        index += step
        if piece == r"\s":
            piece = every if inside else f"[{every}]"
        elif piece == r"\S" and not inside:
            piece = f"[^{every}{_INNER_MARKS}]"
        elif piece == "[" and not inside:
            inside, negated = True, pattern[index : index + 1] == "^"
        elif piece == "]" and inside:
            piece = f"{_INNER_MARKS}]" if negated else "]"
            inside = negated = False
        out.append(piece)
    return "".join(out)


def _escape(token: str) -> str:
    return "".join(c if c.isalnum() or ord(c) > 127 else "\\" + c for c in token)
