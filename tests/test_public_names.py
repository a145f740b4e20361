"""The public names of every room. A change here is a change of what users import: say it in
CHANGELOG.md."""

import importlib
import subprocess
import sys

import pytest

import kerasft

PACKAGE = {
    "AdapterSet",
    "save_preset",
    "InputError",
    "Pipeline",
    "Recipe",
    "__version__",
    "backbones",
    "build",
    "data",
    "doctor",
    "evaluation",
    "export",
    "from_peft",
    "generation",
    "heads",
    "load",
    "methods",
    "metrics",
    "objectives",
    "optimizers",
    "preprocessing",
    "quickstart",
    "retrain",
    "save_peft",
    "serving",
    "tasks",
    "testing",
    "train",
    "training",
    "without_first_blocks",
    "zero_shot",
}
ROOMS = {
    "backbones": """FAMILIES ROLES Block Family HeadStyle Pieces Site Sites build_backbone
        depths describe_backbone family_of lm_logits load load_tokenizer pieces presets run_packed
        save_tokenizer set_template sites surfaces template_of tokenizer_digest""",
    "backbones.huggingface": """Head MaskedWeights load_folder read_head read_masked_head
        write_folder""",
    "data": """Batch DataSpec Duplicates Encoded Feed PackedPlan Plan Source Split
        Summary batches
        check_labels chunk_labels discover_labels draw_of duplicates embedded encode_rows encoder
        feed_of helpers
        input_specs join kinds_of label_field make_splits mask_tokens open_source order_labels
        pack_rows quantiles split_rows summarise take tensors_of text_key text_keys""",
    "evaluation": "Collector Comparison Report compare history plots",
    "export": "export_saved_model",
    "export.deploy": """Deployment Description ServedModel batching_config client_py compose
        kubernetes model_card models_config monitoring_config read_models_config read_run
        read_signatures read_warmup requests_sh verify write_checksums write_deployment write_extras
        write_warmup""",
    "generation": """Cached beam_search choose detokenizer generate repetition_penalty step_model
        stream temperature top_k top_p""",
    "heads": "POOLINGS ClassificationHead MaskedHead Pool TiedLogits TokenHead",
    "metrics": """answer_scores choose_thresholds ece entity_scores generation_scores ks mae mmd2
        mse multiclass multilabel pearson perplexity plain psi r2 ranking_scores reliability scores
        share_difference spearman text_report token_accuracy wilson""",
    "optimizers": "Pace PacedAdamW SCHEDULES WarmupDecay adamw",
    "preprocessing": """Template beside by_row chat in_groups pack ragged_ids row_begins tags taken
        windows""",
    "serving": """Batching Client InputError ModelConfig Options Server ServingError Tap
        read_batching read_models read_monitoring serve single""",
    "testing": "check_family check_method check_objective check_task tiny",
    "testing.contracts": """FAMILY_PARTS METHOD_PARTS OBJECTIVE_PARTS REFUSALS TASK_PARTS Refusal
        check_family check_method check_objective check_task""",
}
# Room -> name in recipes -> class.
REGISTRIES = {
    "methods": {
        "adalora": "AdaLoRA",
        "adapters": "Adapters",
        "bitfit": "BitFit",
        "chain": "Chain",
        "compacter": "Compacter",
        "freeze": "Freeze",
        "full": "Full",
        "gradual-unfreezing": "GradualUnfreezing",
        "head-only": "HeadOnly",
        "ia3": "IA3",
        "layer-norm": "LayerNorm",
        "lora": "LoRA",
        "p-tuning": "PTuning",
        "prefix-tuning": "PrefixTuning",
        "prompt-tuning": "PromptTuning",
        "qlora": "QLoRA",
        "vera": "VeRA",
    },
    "objectives": {},
    "tasks": {
        "causal-lm": "CausalLM",
        "masked-lm": "MaskedLM",
        "question-answering": "QuestionAnswering",
        "relation-extraction": "RelationExtraction",
        "text-classification": "TextClassification",
        "text-to-text": "TextToText",
        "text-similarity": "TextSimilarity",
        "token-classification": "TokenClassification",
        "zero-shot-classification": "ZeroShotClassification",
    },
}
OPTIONS = {
    ("methods", "adalora"): """rank initial_rank alpha dropout targets blocks start end every beta1
        beta2 orthogonality""",
    ("methods", "adapters"): """placement size activation scale blocks
        drop_first_blocks drop_random_blocks""",
    ("methods", "bitfit"): "targets blocks",
    ("methods", "chain"): "methods",
    ("methods", "compacter"): "placement size parts rank activation blocks",
    ("methods", "full"): "",
    ("methods", "freeze"): "train_top_blocks freeze_first_blocks blocks",
    ("methods", "gradual-unfreezing"): "blocks_per_epoch",
    ("methods", "head-only"): "",
    ("methods", "ia3"): "targets blocks",
    ("methods", "layer-norm"): "blocks",
    ("methods", "lora"): """rank alpha dropout targets blocks scaling start dora ranks
        plus""",
    ("methods", "p-tuning"): "virtual_tokens hidden seed encoder",
    ("methods", "prefix-tuning"): "virtual_tokens projection blocks seed",
    ("methods", "prompt-tuning"): "virtual_tokens start start_ids seed",
    ("methods", "qlora"): "bits rank alpha dropout targets blocks",
    ("methods", "vera"): "rank seed d_initial targets blocks",
    ("tasks", "causal-lm"): """format template system separator learn packing overlong max_length
        max_new_tokens temperature top_k top_p repetition_penalty beams length_penalty stop
        label_smoothing""",
    ("tasks", "masked-lm"): "share whole_words max_length",
    ("tasks", "question-answering"): """answers unanswerable threshold max_length max_question
        max_answer overlap head_dropout language""",
    ("tasks", "relation-extraction"): """labels none_label max_length pooling head_dropout
        label_smoothing""",
    ("tasks", "text-to-text"): """instruction source_language target_language template separator
        packing overlong max_length max_new_tokens temperature top_k top_p repetition_penalty beams
        length_penalty stop label_smoothing""",
    ("tasks", "text-similarity"): """objective hard_negatives symmetric scale margin score_range
        pooling normalize query_prefix passage_prefix history max_length head_dropout""",
    ("tasks", "zero-shot-classification"): """labels through hypothesis entailment_labels scale
        pooling max_length head_dropout label_smoothing""",
    ("tasks", "token-classification"): """labels scheme decoding max_length overlap head_dropout
        label_smoothing""",
    ("tasks", "text-classification"): """labels problem pair max_length pooling head_dropout
        class_weights label_smoothing focal_gamma thresholds long_texts tail overlap max_windows""",
}


def test_the_package():
    assert set(kerasft.__all__) == PACKAGE
    assert dir(kerasft) == sorted(kerasft.__all__)
    for name in PACKAGE:
        assert getattr(kerasft, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        kerasft.trian  # noqa: B018


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room(room):
    module = importlib.import_module(f"kerasft.{room}")
    assert sorted(module.__all__) == sorted(ROOMS[room].split())
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_registries():
    """In a process of its own: other tests register members from outside."""
    code = (
        "import dataclasses, importlib\n"
        f"for room in {list(REGISTRIES)}:\n"
        "    registry = importlib.import_module('kerasft.' + room).registry\n"
        "    for name in registry.names():\n"
        "        member = registry.get(name)\n"
        "        options = ' '.join(f.name for f in dataclasses.fields(member) if f.init)\n"
        "        print(room, name, member.__name__, options, sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
    found = {room: {} for room in REGISTRIES}
    for room, name, kind, options in rows:
        found[room][name] = kind
        assert options == " ".join(OPTIONS[room, name].split())
    assert found == REGISTRIES
