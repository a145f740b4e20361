"""Configuration texts: what is written is read again, and is what TF Serving's own protos say."""

import pytest

from kerasft._core.errors import InputError
from kerasft.export.deploy import _messages, config
from kerasft.export.deploy.config import ServedModel

MODELS = {
    "the latest": ServedModel("spam", "/models/spam"),
    "two latest": ServedModel("spam", "/models/spam", 2),
    "all": ServedModel("spam", "/models/spam", "all"),
    "some, with labels": ServedModel("a-b.c", "gs://x/y", (3, 10), {"canary": 10, "stable": 3}),
    "one": ServedModel("spam", 'a "quoted"\npath \\ 垃圾', (7,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_as_it_was_written(name):
    model = MODELS[name]
    text = config.models_config(model.name, model.base_path, model.policy, model.labels)
    assert config.read_models_config(text) == (model,)
    # Fails if a policy is not written: the default of an empty message is "latest".
    others = [m for n, m in MODELS.items() if n != name]
    assert all(config.read_models_config(text) != (other,) for other in others)


def test_several_models_keep_their_order():
    models = tuple(ServedModel(n, f"/models/{n}") for n in ("b", "a", "c"))
    assert config.read_models_config(config.write_models_config(models)) == models


def test_the_order_of_versions_says_nothing():
    assert config.models_config("m", "/m", [4, 3, 4]) == config.models_config("m", "/m", (3, 4))


def test_tf_servings_own_protos_read_the_text():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = config.write_models_config(MODELS.values())
    theirs = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    third = theirs.model_config_list.config[3]
    assert dict(third.version_labels) == {"stable": 3, "canary": 10}
    assert list(third.model_version_policy.specific.versions) == [3, 10]
    assert text_format.MessageToString(theirs) == text


def fields_of(descriptor):
    """The fields of a message as in its .proto file: name -> (number, repeated, type)."""
    from google.protobuf import descriptor_pb2

    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    return {f.name: (f.number, f.label, f.type, f.type_name) for f in proto.field}


def test_our_fields_are_tf_servings():
    """Names, numbers and types; fails for a number changed in `MESSAGES`."""
    from google.protobuf import descriptor_pool
    from tensorflow_serving.config import model_server_config_pb2  # noqa: F401

    compared = 0
    for name in _messages.MESSAGES:
        if name.startswith(("Batching", "Monitoring", "Prometheus")):
            continue  # not in the package
        full = f"{_messages.PACKAGE}.{name}"
        real = fields_of(descriptor_pool.Default().FindMessageTypeByName(full))
        own = fields_of(_messages.new(name).DESCRIPTOR)
        assert own.items() <= real.items()
        compared += len(own)
    assert compared == 14


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b"}, "no blanks"),
        ({"name": "a/b"}, "'a/b'"),
        ({"name": ""}, "Received: ''"),
        ({"base_path": ""}, "`base_path`"),
        ({"policy": "newest"}, "'newest'"),
        ({"policy": ()}, "names no version"),
        ({"policy": 0}, "policy=0"),
        ({"policy": True}, "policy=True"),
        ({"policy": (1, -1)}, "policy=-1"),
        ({"policy": None}, "None"),
        ({"labels": {"my label": 3}}, "'my label'"),
        ({"labels": {"": 3}}, "one word"),
        ({"labels": {"stäble": 3}}, "one word"),
        ({"labels": {"stable": "3"}}, "stable='3'"),
        ({"policy": (3, 4), "labels": {"stable": 5}}, "3, 4. Received: stable=5"),
    ],
)
def test_what_tf_serving_refuses_is_refused(given, said):
    asked = {"name": "spam", "base_path": "/models/spam"} | given
    with pytest.raises(InputError) as told:
        config.models_config(**asked)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_config_list { config { nme: 'a' } }", 'no field named "nme"'),
        ("model_config_list {", "at line:column 1:"),
        ("\n\nversions: 3", "at line:column 3:"),
        ("model_config_list { config { name: 'a' base_path: '/a' } }", "model_platform"),
    ],
)
def test_a_text_that_is_none_is_refused(text, said):
    with pytest.raises(InputError) as told:
        config.read_models_config(text, "deploy/models.config")
    assert said in str(told.value) and "deploy/models.config" in str(told.value)


def test_batching_is_read_as_it_was_written():
    given = {
        "max_batch_size": 24,
        "batch_timeout_micros": 0,
        "max_enqueued_batches": 7,
        "num_batch_threads": 3,
        "allowed_batch_sizes": [8, 24],
        "pad_variable_length_inputs": True,
    }
    assert config.read_batching_config(config.batching_config(**given)) == given


def test_batches_are_filled_up_to_powers_of_two_and_the_largest():
    for most, sizes in ((1, [1]), (8, [1, 2, 4, 8]), (24, [1, 2, 4, 8, 16, 24])):
        found = config.read_batching_config(config.batching_config(most))
        assert found["allowed_batch_sizes"] == sizes
        assert "pad_variable_length_inputs" not in found


@pytest.mark.parametrize(
    "given",
    [
        {"max_batch_size": 0},
        {"num_batch_threads": 0},
        {"batch_timeout_micros": -1},
        {"max_batch_size": 8, "allowed_batch_sizes": [4, 2, 8]},
        {"max_batch_size": 8, "allowed_batch_sizes": [2, 4]},
        {"max_batch_size": 8, "allowed_batch_sizes": [4, 4, 8]},
        {"max_batch_size": 8, "allowed_batch_sizes": [0, 8]},
    ],
)
def test_batching_that_tf_serving_refuses(given):
    with pytest.raises(InputError, match="Received"):
        config.batching_config(**given)


def test_batching_texts_of_others_are_checked():
    sparse = "max_batch_size { value: 8 } # a comment\nthread_pool_name { value: 'x' }"
    assert config.read_batching_config(sparse) == {"max_batch_size": 8, "thread_pool_name": "x"}
    for text in ("max_batch_size: 8", "max_batch { value: 8 }", "allowed_batch_sizes: 'a'"):
        with pytest.raises(InputError, match=r"batching\.config must be"):
            config.read_batching_config(text)
    with pytest.raises(InputError, match="must rise"):
        config.read_batching_config("max_batch_size { value: 8 } allowed_batch_sizes: 4")


def test_monitoring_is_read_as_it_was_written():
    assert config.read_monitoring_config(config.monitoring_config()) == config.METRICS_PATH
    assert config.read_monitoring_config(config.monitoring_config("/m")) == "/m"
    assert config.read_monitoring_config("prometheus_config { enable: false path: '/m' }") is None
    with pytest.raises(InputError, match="begin with '/'"):
        config.monitoring_config("metrics")
