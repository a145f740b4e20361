"""Pipelines on tiny random weights, one of each kind that is exported."""

from kerasft.methods import adapt
from kerasft.pipeline import Pipeline
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
)
from kerasft.testing import tiny

LABELS = ("bad", "good", "so so")
KINDS = {
    "one text": {},
    "a pair": {"pair": True},
    "several labels": {"problem": "multi-label", "thresholds": (0.3, 0.5, 0.7)},
    "a score, lora": {
        "problem": "regression",
        "labels": (),
        "method": {"name": "lora", "rank": 2, "alpha": 2},
    },
    "frozen": {"method": {"name": "freeze"}},
    "mean of a sentencepiece encoder": {"family": "deberta_v3", "pooling": "mean"},
    "decoder of byte pairs": {"family": "gpt2"},
    "decoder of sentencepieces": {"family": "llama"},
    "fixed length": {"family": "f_net"},
    "fixed length, a pair": {"family": "f_net", "pair": True},
    "windows": {"long_texts": "attention", "max_length": 8, "overlap": 2, "max_windows": 3},
    "windows of a fixed length": {
        "family": "f_net",
        "long_texts": "max",
        "max_length": 8,
        "overlap": 2,
    },
    "both ends": {"long_texts": "head-tail", "max_length": 8},
    "entities": {"task": TokenClassification(labels=("LOC", "PER"), max_length=24, overlap=6)},
    "answers": {"task": QuestionAnswering(max_length=24, max_question=6, overlap=6, answers=3)},
    "embeddings": {"task": TextSimilarity(query_prefix="good: ", max_length=24)},
    "relations": {"task": RelationExtraction(labels=LABELS, max_length=24)},
    "completions": {"task": CausalLM(max_length=24, max_new_tokens=4), "family": "gpt2"},
    "chats": {
        "task": CausalLM(format="chat", packing=True, max_length=64, max_new_tokens=4),
        "family": "llama3",
    },
    "translations": {
        "task": TextToText(instruction="a {text}:", max_length=24, max_new_tokens=4, beams=2),
        "family": "llama",
    },
    "masks": {"task": MaskedLM(max_length=24), "family": "roberta"},
    "asked labels": {"task": ZeroShotClassification(labels=LABELS, max_length=32)},
    "labels by likelihood": {
        "task": ZeroShotClassification(labels=LABELS, through="likelihood", max_length=32),
        "family": "gpt2",
    },
    "embeddings of histories": {"task": TextSimilarity(history=True, max_length=24)},
}


def pipeline(family="bert", method="full", task=None, **options):
    task = task or TextClassification(**({"labels": LABELS, "max_length": 24} | options))
    model = task.build(adapt(tiny.backbone(family), method))
    tiny.randomize(model, seed=1)
    return Pipeline(model, tiny.tokenizer(family), task)
