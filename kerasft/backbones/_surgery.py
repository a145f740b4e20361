"""The private names of Keras and KerasHub are touched here, and in the siblings `_surgery_*`, only.

It says where the projections and norms of a block lie, reads and mends what a checkpoint's
configuration asks for and KerasHub's classes fix, and swaps one layer for another.
"""

import hashlib
from functools import partial
from typing import Any

from kerasft._core.weights import named
from kerasft.backbones.words import Splitting, bert_words, bpe_words, default_splitting, sign

# role -> attribute path inside a block, by the class name of the block.
_MULTI_HEAD = {
    "query": "_self_attention_layer._query_dense",
    "key": "_self_attention_layer._key_dense",
    "value": "_self_attention_layer._value_dense",
    "output": "_self_attention_layer._output_dense",
}
_FEED_FORWARD = {
    "up": "_feedforward_intermediate_dense",
    "down": "_feedforward_output_dense",
}
_CROSS = {f"cross_{role}": path.replace("_self_", "_cross_") for role, path in _MULTI_HEAD.items()}
_GATED = _MULTI_HEAD | _FEED_FORWARD | {"gate": "_feedforward_gate_dense"}
_NORMS = ("_self_attention_layer_norm", "_feedforward_layer_norm")
_RMS_NORMS = ("_self_attention_layernorm", "_feedforward_layernorm")
_QK_ONLY = (
    "_self_attention_layer._query_dense_layer_norm",
    "_self_attention_layer._key_dense_layer_norm",
)
_QK_NORMS = (*_RMS_NORMS, *_QK_ONLY)
# The places of every kind of block; some blocks lack some of them (a decoder without an encoder).
LAYOUTS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "TransformerEncoder": (_MULTI_HEAD | _FEED_FORWARD, _NORMS),
    "TransformerDecoder": (
        _MULTI_HEAD | _CROSS | _FEED_FORWARD,
        (*_NORMS, "_cross_attention_layer_norm"),
    ),
    "DisentangledAttentionEncoder": (_MULTI_HEAD | _FEED_FORWARD, _NORMS),
    "FNetEncoder": (
        {"up": "_intermediate_dense", "down": "_output_dense"},
        ("_mixing_layer_norm", "_output_layer_norm"),
    ),
    "LlamaTransformerDecoder": (_GATED, _RMS_NORMS),
    "MistralTransformerDecoder": (_GATED, _RMS_NORMS),
    "QwenTransformerDecoder": (_GATED, _RMS_NORMS),
    "Qwen3TransformerDecoder": (_GATED, _QK_NORMS),
    "GemmaDecoderBlock": (
        {
            "query": "attention.query_dense",
            "key": "attention.key_dense",
            "value": "attention.value_dense",
            "output": "attention.output_dense",
            "gate": "gating_ffw",
            "up": "gating_ffw_2",
            "down": "ffw_linear",
        },
        ("pre_attention_norm", "post_attention_norm", "pre_ffw_norm", "post_ffw_norm"),
    ),
    "T5TransformerLayer": (
        {
            f"{before}{role}": f"{kind}_attention.{role}_projector"
            for before, kind in (("", "self"), ("cross_", "cross"))
            for role in _MULTI_HEAD
        }
        | {"up": "input_projector", "gate": "gate_projector", "down": "output_projector"},
        ("self_attention_layer_norm", "cross_attention_layer_norm", "layer_norm"),
    ),
}


def resolve(layer: Any, path: str) -> tuple[Any, str]:
    """Return the owner and the attribute's name that a dotted path below `layer` leads to.

    The owner is None where the block lacks that part; what a method put around one is passed.
    """
    *way, name = path.split(".")
    for part in way:
        layer = inside(getattr(layer, part, None))
    return layer, name


def around(layer: Any) -> list[Any]:
    """The layers that methods have put around a layer of the backbone, outermost first.

    They keep what they stand around as `base`, which no layer of Keras or KerasHub has.
    """
    found = []
    while hasattr(layer, "base"):
        found.append(layer)
        layer = layer.base
    return found


def inside(layer: Any) -> Any:
    """The backbone's own layer, whatever methods have put around it."""
    return around(layer)[-1].base if around(layer) else layer


def replace(owner: Any, attribute: str, new: Any) -> Any:
    """Set `owner.attribute` to the layer `new` and return the layer that was there.

    Keras locks a layer's tracker once the layer is built; it is opened for the exchange, and the
    old layer is dropped from the list of sublayers, or its weights would be counted twice.
    """
    old = getattr(owner, attribute)
    tracker = owner._tracker
    locked = tracker.locked
    tracker.unlock()
    try:
        position = next(i for i, layer in enumerate(owner._layers) if layer is old)
        setattr(owner, attribute, new)
        owner._layers[:] = [x for x in owner._layers if x is not new and x is not old]
        owner._layers.insert(position, new)
    finally:
        if locked:
            tracker.lock()
    if any(operation is old for operation in getattr(owner, "_operations", ())):
        _replace_in_graph(owner, old, new)
    return old


def _replace_in_graph(model: Any, old: Any, new: Any) -> None:
    """Let a functional model's graph call `new` where it called `old`."""
    for operations in (model._operations, *model._operations_by_depth.values()):
        operations[:] = [new if operation is old else operation for operation in operations]
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            if node.operation is old:
                node.operation = new


def leave_first_batch(model: Any) -> None:
    """Keep `fit` from building a built model once more, from the first batch.

    Under tf.distribute Keras does so with the mean of the batch over the replicas, and fails where
    one replica has got fewer rows than another.
    """
    model._maybe_symbolic_build = lambda *_, **__: None


def leave_replicas(optimizer: Any) -> None:
    """Keep an optimizer from summing gradients over the replicas: they come summed.

    Keras clips first and sums then, so each replica would clip a part of its own; and loss scaling
    looks for infinite numbers in the part of the first replica alone.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda pairs: pairs


def stacks_of(backbone: Any) -> list[list[Any]]:
    """The transformer blocks in order, each once (ALBERT's groups hold lists of them).

    An encoder-decoder has two stacks of them, that of the encoder first.
    """
    if hasattr(backbone, "transformer_layers"):
        stacks = [backbone.transformer_layers]
    else:
        stacks = [backbone.encoder_transformer_layers, backbone.decoder_transformer_layers]
    nested = [[x if isinstance(x, (list, tuple)) else [x] for x in stack] for stack in stacks]
    return [[layer for group in stack for layer in group] for stack in nested]


def blocks_of(backbone: Any) -> list[Any]:
    """The blocks of all stacks, one after the other."""
    return [layer for stack in stacks_of(backbone) for layer in stack]


def layers_above(backbone: Any) -> list[Any]:
    """The layers that read what a block gives and are none: last norms, the pooler."""
    blocks = {id(x) for x in blocks_of(backbone)}
    reading: dict[int, bool] = {}

    def reads(layer: Any) -> bool:
        if id(layer) not in reading:
            nodes = layer._inbound_nodes[0].parent_nodes
            below = [node.operation for node in nodes]
            reading[id(layer)] = any(id(x) in blocks or reads(x) for x in below)
        return reading[id(layer)]

    return [x for x in backbone.layers if id(x) not in blocks and reads(x)]


def norms_outside(backbone: Any) -> tuple[Any, ...]:
    """The normalisation layers that lie in no block: those of embeddings, and the last one."""
    inside = {id(x) for b in blocks_of(backbone) for x in b._flatten_layers()}
    layers = backbone._flatten_layers(include_self=False)
    found = [x for x in layers if _is_norm(x) and id(x) not in inside]
    return tuple({id(x): x for x in found}.values())


def own_weights(backbone: Any) -> dict[str, tuple[Any, dict[str, tuple[str, Any]]]]:
    """The layers that hold weights themselves, with these, by the layer's place among the weights.

    Returns:
        `a/b/query` -> (the layer, name of the weight -> (its path as `_core.weights.named` gives
        it, the variable)).
    """
    paths = {id(v): path for path, v in named(backbone.weights).items()}
    found = {}
    for layer in {id(x): x for x in backbone._flatten_layers()}.values():
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        held = {v.name: (paths[id(v)], v) for v in own if id(v) in paths}
        if held:
            name, (path, _) = next(iter(held.items()))
            way, _, mark = path.partition("#")
            found[way.removesuffix(f"/{name}") + (mark and f"#{mark}")] = (layer, held)
    return found


def without_rows(backbone: Any) -> set[int]:
    """The ids of layers that read no row of a batch but a table: DeBERTa's of distances."""
    found = [x for x in backbone._flatten_layers() if type(x).__name__ == "RelativeEmbedding"]
    return {id(inner) for x in found for inner in x._flatten_layers()}


def gain_of(norm: Any, weight: Any) -> Any:
    """What a norm multiplies with: Gemma's keep how much it is above 1."""
    return 1.0 + weight if type(norm).__name__ == "RMSNormalization" else weight


def _is_norm(layer: Any) -> bool:
    return "norm" in type(layer).__name__.lower() and hasattr(layer, "epsilon")


def steady_paths(backbone: Any) -> Any:
    """Let the paths of a backbone's weights follow from where they are, and give the backbone.

    The norms inside KerasHub's T5 blocks have no names, so Keras counts all that were ever made,
    and the next backbone's would be called otherwise.
    """
    for block in blocks_of(backbone):
        kind = type(block).__name__
        for name in LAYOUTS[kind][1] if kind == "T5TransformerLayer" else ():
            for variable in getattr(getattr(block, name, None), "variables", ()):
                variable._path = f"{block.name}/{name}/{variable.name}"
    return backbone


# --- what the checkpoint's configuration asks for and KerasHub's classes fix --------------------

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "gelu_tanh": "gelu_tanh",
}


def _gelu_tanh(x):
    import keras

    return keras.activations.gelu(x, approximate=True)


def _activation(name: str):
    import keras

    return _gelu_tanh if name == "gelu_tanh" else keras.activations.get(name)


def read_fixes(backbone: Any) -> dict[str, Any]:
    """Read the activation and the norms' epsilon that the blocks really use.

    KerasHub's `get_config` knows neither, so they would be lost when a model is rebuilt.
    """
    block = blocks_of(backbone)[0]
    roles, norms = LAYOUTS[type(block).__name__]
    owner, name = resolve(block, norms[0])
    found: dict[str, Any] = {"layer_norm_epsilon": float(getattr(owner, name).epsilon)}
    # The gate of a gated block has the activation, but T5's: what it calls its gate is linear.
    if "gate" not in roles or type(block).__name__ == "T5TransformerLayer":
        owner, name = resolve(block, roles["up"])
        found["activation"] = _name_of(getattr(owner, name).activation)
    for path in norms:
        if path in _QK_ONLY:
            owner, name = resolve(block, path)
            found["query_key_epsilon"] = float(getattr(owner, name).epsilon)
    if hasattr(getattr(block, "attention", None), "query_head_dim_normalize"):
        found["query_head_dim_normalize"] = block.attention.query_head_dim_normalize
    return found


def _name_of(activation: Any) -> str:
    name = getattr(activation, "__name__", str(activation))
    return "gelu_tanh" if name in ("gelu_approximate", "_gelu_tanh", "gelu_tanh") else name


def activation_key(name: str) -> str:
    """The name that a Hugging Face config.json has for an activation of `read_fixes`."""
    return next(key for key, value in ACTIVATIONS.items() if value == name)


def apply_fixes(backbone: Any, fixes: dict[str, Any]) -> None:
    """Set the activation in every block and the epsilon of every norm (see `read_fixes`)."""
    activation, epsilon = fixes.get("activation"), fixes.get("layer_norm_epsilon")
    if activation and read_fixes(backbone).get("activation") not in (None, activation):
        for block in blocks_of(backbone):
            owner, name = resolve(block, LAYOUTS[type(block).__name__][0]["up"])
            getattr(owner, name).activation = _activation(activation)
    if epsilon is not None:
        for layer in backbone._flatten_layers(include_self=False):
            if _is_norm(layer):
                layer.epsilon = epsilon
    # KerasHub's Qwen 3 has 1e-5 here whatever the rest has; its checkpoints ask for one value.
    if "query_key_epsilon" in fixes:
        for block in blocks_of(backbone):
            for path in _QK_ONLY:
                owner, name = resolve(block, path)
                getattr(owner, name).epsilon = fixes["query_key_epsilon"]
    # KerasHub's Gemma does not hand this argument on from the backbone to its blocks.
    if "query_head_dim_normalize" in fixes:
        for block in blocks_of(backbone):
            block.attention.query_head_dim_normalize = fixes["query_head_dim_normalize"]


def converter_of(model_type: str) -> Any:
    """KerasHub's own module that ports the weights of a Hugging Face model type."""
    from keras_hub.src.utils.transformers import preset_loader

    return preset_loader.TransformersPresetLoader("", {"model_type": model_type}).converter


def in_graph(tokenizer: Any, splitting: Splitting | None = None) -> Any:
    """Make a KerasHub tokenizer use TensorFlow code only, the code that gets exported.

    Texts are cut into words as the models were trained with (see `words`), and not as KerasHub
    does; `splitting` says how, for a byte-level BPE whose checkpoint does it in its own way.
    """
    import keras_hub
    from keras_hub.src.utils.tensor_utils import preprocessing_function

    tokenizer._allow_python_workflow = False
    name, ids = type(tokenizer).__name__, None
    if isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer) and tokenizer.split:
        ids = _wordpiece_ids
    bytes_too = isinstance(tokenizer, keras_hub.tokenizers.BytePairTokenizer)
    if bytes_too and name != "MistralTekkenTokenizer":  # that one runs Python, also in a graph
        ids = _byte_pair_ids
        tokenizer.kerasft_splitting = splitting or default_splitting(name)
        if tokenizer.vocabulary:
            _make_merges(tokenizer)
    if isinstance(tokenizer, keras_hub.tokenizers.SentencePieceTokenizer) and tokenizer.proto:
        _keep_model(tokenizer)
        ids = _xlm_roberta_ids if name == "XLMRobertaTokenizer" else None
    if ids is not None:
        tokenizer._tokenize_tf = partial(preprocessing_function(ids), tokenizer)
    return tokenizer


def _keep_model(tokenizer: Any) -> None:
    """Give the SentencePiece model in TensorFlow a name, which keeps it alive.

    Without one it belongs to an op's kernel, and goes when TensorFlow clears its kernels: after
    `keras.utils.set_random_seed`, every function and every tf.data pipeline with it would fail.
    """
    from tensorflow_text.python.ops import sentencepiece_tokenizer

    make = sentencepiece_tokenizer.gen_sentencepiece_tokenizer.sentencepiece_op
    name = "kerasft_" + hashlib.sha256(tokenizer.proto).hexdigest()[:32]
    resource = tokenizer._sentence_piece._model_resource
    resource._create_resource = partial(make, model=tokenizer.proto, shared_name=name)
    resource._resource_handle = resource._create_resource()


def splitting_of(tokenizer: Any) -> Splitting | None:
    """How a byte-level BPE tokenizer cuts texts into words; None for the other kinds."""
    return getattr(tokenizer, "kerasft_splitting", None)


def piece_maker(tokenizer: Any) -> tuple[str, Any]:
    """What makes pieces in a tokenizer that `in_graph` has made over, and its kind.

    Returns:
        ("wordpiece", FastWordpieceTokenizer), ("bytes", ByteMerges),
        ("sentencepiece", SentencepieceTokenizer) or ("", None) for any other tokenizer.
    """
    import keras_hub

    if splitting_of(tokenizer) is not None:
        return "bytes", tokenizer.kerasft_merges
    if isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer) and tokenizer.split:
        tokenizer._maybe_initialized_tf()
        return "wordpiece", tokenizer._fast_word_piece
    if isinstance(tokenizer, keras_hub.tokenizers.SentencePieceTokenizer) and tokenizer.proto:
        return "sentencepiece", tokenizer._sentence_piece
    return "", None


def ragged_ids(tokenizer: Any, texts: Any) -> Any:
    """`tokenizer(texts)` as a RaggedTensor, also outside a graph, where KerasHub makes lists."""
    from keras_hub.src.utils.tensor_utils import no_convert_scope

    with no_convert_scope():
        return tokenizer(texts)


def _wordpiece_ids(tokenizer: Any, texts: Any) -> Any:
    import tensorflow as tf

    from kerasft._core.ragged import merged

    tokenizer._maybe_initialized_tf()
    texts = tf.convert_to_tensor(texts)
    words = bert_words(
        tf.reshape(texts, [-1]),
        tokenizer.lowercase,
        tokenizer.strip_accents,
        tokenizer.split_on_cjk,
    )
    ids = merged(tokenizer._fast_word_piece.tokenize(words))
    return ids[0] if texts.shape.rank == 0 else ids


def _xlm_roberta_ids(tokenizer: Any, texts: Any) -> Any:
    """What XLMRobertaTokenizer makes of SentencePiece's ids, without broadcasting ragged rows."""
    import keras_hub
    import tensorflow as tf

    def shifted(ids):
        return tf.where(ids == 0, tokenizer.unk_token_id - 1, ids) + 1

    made = keras_hub.tokenizers.SentencePieceTokenizer._tokenize_tf(tokenizer, texts)
    return tf.ragged.map_flat_values(shifted, made)


def _make_merges(tokenizer: Any) -> None:
    """Give a byte-level BPE tokenizer tables of our own (see `bpe`)."""
    from kerasft.backbones.bpe import ByteMerges

    tokenizer.kerasft_merges = ByteMerges(
        tokenizer.vocabulary,
        [merge for merge in tokenizer.merges if not merge.startswith("#version")],
        {sign(i): tokenizer.vocabulary[token] for i, token in enumerate(_specials(tokenizer))},
        tokenizer.kerasft_splitting.whole,
    )


def _specials(tokenizer: Any) -> tuple[str, ...]:
    return tuple(tokenizer.unsplittable_tokens or ())


def _byte_pair_ids(tokenizer: Any, texts: Any) -> Any:
    import tensorflow as tf

    from kerasft._core.ragged import merged

    texts = tf.convert_to_tensor(texts)
    ids = merged(byte_pair_words(tokenizer, tf.reshape(texts, [-1])))
    return ids[0] if texts.shape.rank == 0 else ids


def byte_pair_words(tokenizer: Any, texts: Any) -> Any:
    """Ids of the pieces of each word of a byte-level BPE: [batch, (words), (pieces)]."""
    words = bpe_words(spaced(tokenizer, texts), splitting_of(tokenizer), _specials(tokenizer))
    return words.with_flat_values(tokenizer.kerasft_merges(words.flat_values))


def spaced(tokenizer: Any, texts: Any) -> Any:
    """Texts with the space that a byte-level BPE puts in front of each, if it does."""
    import tensorflow as tf

    add = tokenizer.add_prefix_space
    return tf.strings.regex_replace(texts, "^([^ ])", r" \1") if add else texts
