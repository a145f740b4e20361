"""The tokenizer of a checkpoint folder, as KerasHub's tokenizer of the right class."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasft._core import files
from kerasft._core.errors import InputError, KerasftError
from kerasft.backbones import _surgery
from kerasft.backbones.describe import default_template, set_template
from kerasft.backbones.families import family_of_model_type
from kerasft.backbones.huggingface import byte_pairs, pieces
from kerasft.backbones.huggingface.layouts import Layout
from kerasft.preprocessing import Template

# A file of SentencePiece says by its name whose it is; `tokenizer.model` is anyone's.
_MODELS = {
    "sentencepiece.bpe.model": "XLMRobertaTokenizer",
    "spiece.model": "AlbertTokenizer",
    "spm.model": "DebertaV3Tokenizer",
    "tokenizer.model": "",
}
_WORDPIECE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_UNIGRAM = ("XLMRobertaTokenizer", "AlbertTokenizer", "DebertaV3Tokenizer")
_BYTE_PAIRS = (
    "RobertaTokenizer",
    "BartTokenizer",
    "GPT2Tokenizer",
    "QwenTokenizer",
    "Qwen3Tokenizer",
)


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder says about its tokenizer: tokenizer_config.json and tokenizer.json, or {}."""

    folder: str
    settings: dict[str, Any]
    state: dict[str, Any]

    def path(self, name: str) -> str:
        """The path of a file in the folder."""
        return files.join(self.folder, name)

    def has(self, name: str) -> bool:
        """Whether the folder holds a file."""
        return Path(self.folder, name).is_file()

    def model(self) -> dict[str, Any]:
        """The `model` of tokenizer.json, or {}."""
        return self.state.get("model") or {}

    def token(self, name: str) -> str | None:
        """A special token, e.g. `bos`: tokenizer_config.json has it as a text or an object."""
        value = self.settings.get(f"{name}_token")
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else None

    def added(self) -> dict[str, int]:
        """Tokens that were added to the vocabulary, with their ids."""
        found = {t["content"]: t["id"] for t in self.state.get("added_tokens") or []}
        for number, token in (self.settings.get("added_tokens_decoder") or {}).items():
            found.setdefault(token["content"], int(number))
        return found


def read_files(folder: str) -> TokenizerFiles:
    """Read the JSON files about a folder's tokenizer; a missing one counts as empty."""
    found = []
    for name in ("tokenizer_config.json", "tokenizer.json"):
        path = files.join(folder, name)
        value = files.read_json(path) if Path(path).is_file() else {}
        if not isinstance(value, dict):
            raise InputError(f"{path} must be a JSON object. Received: {value!r:.80}.")
        found.append(value)
    return TokenizerFiles(folder, *found)


def load_tokenizer(folder: str, layout: Layout, config: dict[str, Any]) -> Any:
    """Build the tokenizer of a checkpoint folder, with the template of special ids it asks for.

    Raises:
        InputError: if its files are missing or damaged, or TensorFlow cannot do what they ask.
    """
    there = read_files(folder)
    try:
        tokenizer, splitting = _build(there, layout)
    except KerasftError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        text = " ".join(str(error).split())
        raise InputError(
            f"The tokenizer files of {folder} do not make a tokenizer: "
            f"{type(error).__name__} {text[:200]}"
        ) from error
    _surgery.in_graph(tokenizer, splitting)
    set_template(tokenizer, _template(there, layout, config, tokenizer))
    _check_rows(there, tokenizer, config)
    return tokenizer


def _build(there: TokenizerFiles, layout: Layout) -> tuple[Any, Any]:
    import keras_hub

    own = family_of_model_type(layout.model_type).tokenizer
    model = next((name for name in _MODELS if there.has(name)), None)
    kind = there.model().get("type")
    if there.has("vocab.txt") or kind == "WordPiece":
        name = own if own in _WORDPIECE else "BertTokenizer"
        return _wordpiece(there, getattr(keras_hub.tokenizers, name)), None
    if byte_pairs.is_byte_level(there.state) or (there.has("vocab.json") and not model):
        name = own if own in _BYTE_PAIRS else "Llama3Tokenizer"
        return byte_pairs.build(there, getattr(keras_hub.tokenizers, name))
    if model or kind in ("Unigram", "BPE"):
        name = _MODELS.get(model or "") or _sentencepiece_class(there, own)
        return getattr(keras_hub.tokenizers, name)(_proto(there, name, model)), None
    raise InputError(
        f"A {layout.model_type} folder holds its tokenizer as vocab.txt, vocab.json with "
        "merges.txt, a SentencePiece model or tokenizer.json. "
        f"Received: {there.folder}, which has none of them."
    )


def _sentencepiece_class(there: TokenizerFiles, own: str) -> str:
    """KerasHub's class for a tokenizer.json of pieces, or for a file of any family."""
    asked = str(there.settings.get("tokenizer_class", "")).removesuffix("Fast")
    asked = asked.replace("DebertaV2", "DebertaV3")
    if asked in _UNIGRAM:
        return asked
    if own in (*_WORDPIECE, *_BYTE_PAIRS):
        return "XLMRobertaTokenizer"
    return "LlamaTokenizer" if own == "Llama3Tokenizer" else own


def _proto(there: TokenizerFiles, name: str, model: str | None) -> bytes:
    if model is None:
        path = there.path("tokenizer.json")
        return pieces.proto_of(there.state, path, fairseq=name == "XLMRobertaTokenizer")
    proto = pieces.read_proto(there.path(model))
    lower = there.settings.get("do_lower_case", name == "AlbertTokenizer")
    strip = name == "AlbertTokenizer" and not there.settings.get("keep_accents", False)
    if name in ("AlbertTokenizer", "DebertaV3Tokenizer") and (lower or strip):
        return pieces.lowered(proto, bool(lower), strip)
    return proto


def _wordpiece(there: TokenizerFiles, cls: type) -> Any:
    if there.has("vocab.txt"):
        path = there.path("vocab.txt")
        text = files.read_bytes(path).decode("utf-8")
        vocabulary = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    else:
        path = there.path("tokenizer.json")
        ids = there.model()["vocab"] | there.added()
        vocabulary = sorted(ids, key=ids.get)
        if [ids[word] for word in vocabulary] != list(range(len(vocabulary))):
            raise InputError(f"{path}: the ids of its vocabulary must be 0, 1, 2, ...")
    normalizer = there.state.get("normalizer") or {}
    lower = there.settings.get("do_lower_case", normalizer.get("lowercase", True))
    strip = there.settings.get("strip_accents", normalizer.get("strip_accents"))
    chinese = normalizer.get("handle_chinese_chars", True)
    return cls(
        vocabulary,
        lowercase=bool(lower),
        strip_accents=bool(lower if strip is None else strip),
        split_on_cjk=bool(there.settings.get("tokenize_chinese_chars", chinese)),
    )


# --- special ids around texts -------------------------------------------------------------------


def _template(there: TokenizerFiles, layout: Layout, config: dict, tokenizer: Any) -> Template:
    template = default_template(tokenizer)
    if config.get("type_vocab_size") == 1:
        template = replace(template, second_segment=0)
    if family_of_model_type(layout.model_type).kind != "decoder":
        return template
    start, end = _around(there, tokenizer)
    start = template.start if start is None else start
    return replace(template, start=start, end=end, pad=_pad(there, config, tokenizer))


def _around(there: TokenizerFiles, tokenizer: Any) -> tuple[tuple | None, tuple]:
    """Ids before and after a text: what add_bos_token says, else the post-processor.

    None stands for the default of the tokenizer's class.
    """
    settings = there.settings
    start, end = _post_processed(there.state.get("post_processor"), tokenizer)
    if not there.state:
        start = None
    if isinstance(settings.get("add_bos_token"), bool):
        own = tokenizer.start_token_id if settings["add_bos_token"] else None
        start = () if own is None else (own,)
    if isinstance(settings.get("add_eos_token"), bool):
        end = (tokenizer.end_token_id,) if settings["add_eos_token"] else ()
    return start, end


def _post_processed(part: dict[str, Any] | None, tokenizer: Any) -> tuple[tuple, tuple]:
    """What a TemplateProcessing puts before and after one text."""
    for step in (part or {}).get("processors") or [part or {}]:
        if step.get("type") == "TemplateProcessing":
            tokens = [s.get("SpecialToken", {}).get("id") for s in step["single"]]
            ids = [None if t is None else tokenizer.token_to_id(t) for t in tokens]
            place = ids.index(None)
            return tuple(ids[:place]), tuple(ids[place + 1 :])
    return (), ()


def _pad(there: TokenizerFiles, config: dict[str, Any], tokenizer: Any) -> int:
    """The id that fills rows: the pad token, config.json's, or the end token.

    KerasHub's 0 is a common word in many vocabularies, and Transformers finds the last real
    token of a row by what is not padding.
    """
    token = there.token("pad")
    known = there.added()
    if token in known:
        return known[token]
    if token is not None and token in set(tokenizer.get_vocabulary()):
        return int(tokenizer.token_to_id(token))
    asked = config.get("pad_token_id")
    if isinstance(asked, int) and 0 <= asked < config["vocab_size"]:
        return asked
    return int(tokenizer.end_token_id)


def _check_rows(there: TokenizerFiles, tokenizer: Any, config: dict[str, Any]) -> None:
    # A mask token may lie one past the table: texts never hold it.
    if tokenizer.vocabulary_size() > config["vocab_size"] + 1:
        raise InputError(
            f"The tokenizer of {there.folder} has {tokenizer.vocabulary_size()} tokens, but "
            f"config.json says vocab_size={config['vocab_size']}. "
            "Check that they belong together."
        )
