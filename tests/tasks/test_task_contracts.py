"""Every task holds its contract, on every family and in every one of its problems."""

import pytest

from kerasft.backbones import FAMILIES
from kerasft.tasks import (
    CausalLM,
    MaskedLM,
    QuestionAnswering,
    RelationExtraction,
    TextClassification,
    TextSimilarity,
    TextToText,
    TokenClassification,
    ZeroShotClassification,
    registry,
)
from kerasft.testing import check_task
from kerasft.testing.contracts import TASK_PARTS

LABELS = ("bad", "good", "ugly")
SINGLE = ("label", "probabilities", "logits")
# The names of what each task gives, as clients of an exported model know them.
MEMBERS = {
    "single-label": (TextClassification(labels=LABELS, max_length=16), SINGLE),
    "weighted pairs": (
        TextClassification(
            labels=LABELS,
            pair=True,
            max_length=16,
            class_weights=(1.0, 2.0, 0.5),
            label_smoothing=0.1,
            focal_gamma=0.5,
        ),
        SINGLE,
    ),
    "multi-label": (
        TextClassification(
            labels=LABELS,
            problem="multi-label",
            max_length=16,
            thresholds=(0.3, 0.5, 0.6),
            focal_gamma=0.5,
        ),
        ("labels", "probabilities", "logits"),
    ),
    "regression": (TextClassification(problem="regression", max_length=16), ("score",)),
    "entities": (
        TokenClassification(labels=("LOC", "PER"), max_length=16, overlap=4),
        ("text", "label", "start", "end", "score"),
    ),
    "entities with ends": (
        TokenClassification(
            labels=("LOC",),
            scheme="iobes",
            decoding="argmax",
            max_length=12,
            overlap=0,
            label_smoothing=0.1,
        ),
        ("text", "label", "start", "end", "score"),
    ),
    "answers": (
        QuestionAnswering(max_length=16, max_question=4, overlap=3, answers=2),
        ("answer", "start", "end", "score"),
    ),
    "answers or none": (
        QuestionAnswering(max_length=16, max_question=4, overlap=3, unanswerable=True),
        ("answer", "start", "end", "score"),
    ),
    "relations": (
        RelationExtraction(labels=LABELS, max_length=24, none_label="ugly"),
        ("label", "probabilities"),
    ),
    "relations at markers": (
        RelationExtraction(labels=LABELS, max_length=24, pooling="markers"),
        ("label", "probabilities"),
    ),
    "completions": (
        CausalLM(max_length=32, max_new_tokens=3, overlong="cut"),
        ("completion", "tokens"),
    ),
    "packed chats": (
        CausalLM(format="chat", max_length=64, packing=True, overlong="cut", max_new_tokens=2),
        ("completion", "tokens"),
    ),
    "texts": (
        CausalLM(format="text", max_length=16, packing=True, max_new_tokens=2, beams=2),
        ("completion", "tokens"),
    ),
    "translations": (
        TextToText(
            instruction="Into {target}: {text}",
            target_language="zh",
            max_length=64,
            max_new_tokens=2,
        ),
        ("completion", "tokens"),
    ),
    "summaries": (
        TextToText(max_length=24, max_new_tokens=3, beams=2, overlong="cut", label_smoothing=0.1),
        ("completion", "tokens"),
    ),
    "search": (TextSimilarity(max_length=16), ("embedding",)),
    "search with hard negatives": (
        TextSimilarity(
            hard_negatives=True,
            symmetric=True,
            scale=5.0,
            pooling="max",
            normalize=False,
            query_prefix="free ",
            passage_prefix="prize: ",
            head_dropout=0.1,
            max_length=16,
        ),
        ("embedding",),
    ),
    "search after a history": (TextSimilarity(history=True, max_length=16), ("embedding",)),
    "triplets": (TextSimilarity(objective="triplet", max_length=16), ("embedding",)),
    "similarity": (
        TextSimilarity(objective="cosine", score_range=(-2.0, 4.0), max_length=16),
        ("embedding",),
    ),
    "masks": (MaskedLM(max_length=16, share=0.4), ("token", "score")),
    "asked labels": (
        ZeroShotClassification(labels=LABELS, max_length=32),
        ("label", "probabilities"),
    ),
    "asked labels by likeness": (
        ZeroShotClassification(labels=LABELS, max_length=32, through="similarity"),
        ("label", "probabilities"),
    ),
    "asked labels by likelihood": (
        ZeroShotClassification(
            labels=LABELS, max_length=48, through="likelihood", hypothesis="a {label} film"
        ),
        ("label", "probabilities"),
    ),
    "long texts": (
        TextClassification(
            labels=LABELS, max_length=8, overlap=2, max_windows=3, long_texts="attention"
        ),
        SINGLE,
    ),
    "long texts, several labels": (
        TextClassification(
            labels=LABELS,
            problem="multi-label",
            max_length=8,
            overlap=0,
            long_texts="mean",
            pooling="max",
            thresholds=(0.3, 0.5, 0.6),
        ),
        ("labels", "probabilities", "logits"),
    ),
    "long texts, a score": (
        TextClassification(problem="regression", max_length=8, overlap=4, long_texts="max"),
        ("score",),
    ),
    "both ends": (TextClassification(labels=LABELS, max_length=8, long_texts="head-tail"), SINGLE),
    "mean pooling": (TextClassification(labels=LABELS, max_length=16, pooling="mean"), SINGLE),
}
# What takes longest is held here for one member of each task, and for the others with -m slow.
REPLICAS = (
    "single-label",
    "entities",
    "answers",
    "packed chats",
    "search with hard negatives",
    "masks",
    "long texts",
)
# A few steps take a moment, the graph of them many seconds. Negatives come from all replicas.
REPLICAS_IN_GRAPH = ("single-label", "search with hard negatives")
# One member of each task, on one device.
IN_GRAPH = {
    *((name, "bert") for name in (*REPLICAS, "relations", "asked labels", "similarity")),
    ("packed chats", "gpt2"),
    ("summaries", "bart"),
    ("summaries", "t5"),  # eagerly, Keras warns of the softmax over a text of one token
}
LIGHT = ("config", "fields", "model", "loss", "metrics", "judged", "decode")
ELSEWHERE = {
    ("single-label", "gpt2"),
    ("single-label", "f_net"),
    ("weighted pairs", "roberta"),
}
# Other kinds of tokenizers, and a decoder, for what reads a text in windows.
WINDOWS = {
    ("entities", "xlm_roberta"),
    ("entities with ends", "gpt2"),
    ("answers", "xlm_roberta"),
    ("answers or none", "roberta"),
    ("masks", "f_net"),
    ("summaries", "t5"),
}
# What writes text needs a decoder; one of each kind of tokenizer.
WRITERS = {("completions", "gemma"), ("packed chats", "gpt2"), ("texts", "llama3")}
WRITERS |= {("translations", "llama"), ("asked labels by likelihood", "gpt2")}
WRITERS |= {("summaries", "bart")}


def supported(name, family):
    task = MEMBERS[name][0]
    if family.kind == "encoder-decoder":
        return isinstance(task, TextToText)
    if isinstance(task, MaskedLM):
        return family.kind == "encoder"
    writes = isinstance(task, CausalLM | TextToText)
    return family.kind == "decoder" or not (writes or getattr(task, "through", "") == "likelihood")


PAIRS = [
    pytest.param(
        name,
        family.name,
        id=f"{name.replace(' ', '_')}-{family.name}",
        marks=[pytest.mark.graph] * ((name, family.name) in IN_GRAPH),
    )
    for name in MEMBERS
    for family in FAMILIES
    if supported(name, family)
    and (name == "single-label" or family.name == "bert")
    or (name, family.name) in ELSEWHERE | WINDOWS | WRITERS
]
EVERY = [(name, f.name) for name in MEMBERS for f in FAMILIES if supported(name, f)]
NEW = sorted(set(registry.names()) - {task.name for task, _ in MEMBERS.values()})
PAIRS += [pytest.param(name, "bert", id=f"{name}-bert") for name in NEW]


def always(part, name, family):
    """Whether a part runs without `-m slow`."""
    if part == "replicas in a graph":
        return name in REPLICAS_IN_GRAPH and family == "bert"
    return part != "replicas" or name in REPLICAS


@pytest.mark.contract("tasks x families", of=len(PAIRS))
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_contract(name, family):
    task, outputs = MEMBERS.get(name) or (registry.get(name)(labels=LABELS), None)
    whole = family == "bert" or (name, family) in ELSEWHERE | WRITERS
    parts = tuple(TASK_PARTS) if whole else (*LIGHT, "encode")
    parts = tuple(p for p in parts if always(p, name, family))
    assert check_task(task, family, outputs=outputs, parts=parts) == dict.fromkeys(parts, "passed")


def test_a_member_of_each_task_is_held_in_a_graph():
    assert {MEMBERS[name][0].name for name, _ in IN_GRAPH} == set(registry.names()) - set(NEW)


@pytest.mark.slow
@pytest.mark.contract("tasks x families, all parts", of=len(EVERY))
@pytest.mark.parametrize(("name", "family"), EVERY)
def test_whole_contract(name, family):
    task, outputs = MEMBERS[name]
    check_task(task, family, outputs=outputs)
