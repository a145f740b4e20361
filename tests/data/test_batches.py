"""Which rows go together: every row once an epoch, the same for one seed, like lengths together."""

import itertools

import numpy as np
import pytest

from kerasft import InputError
from kerasft.backbones import set_template
from kerasft.data import Encoded, Feed, Plan, batches, encoder
from kerasft.preprocessing import Template
from kerasft.tasks import CausalLM, TextClassification, TextSimilarity
from kerasft.testing import tiny

LENGTHS = np.random.default_rng(0).integers(1, 60, 1003)


def plan(**options):
    return Plan(**({"lengths": LENGTHS, "batch_size": 8, "seed": 3} | options))


def as_lists(batches):
    return [b.tolist() for b in batches]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 400, 401, 1003])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_an_epoch(rows, shuffle):
    chosen = plan(lengths=LENGTHS[:rows], shuffle=shuffle)
    epoch = chosen.epoch(2)
    assert sorted(np.concatenate(epoch)) == list(range(rows))
    assert len(epoch) == chosen.steps == -(-rows // 8)
    assert [len(b) for b in epoch[:-1]] == [8] * (len(epoch) - 1), "only the last one is short"


def test_one_seed_gives_one_order():
    assert as_lists(plan().epoch(1)) == as_lists(plan().epoch(1))
    assert as_lists(plan().epoch(1)) != as_lists(plan().epoch(2))
    assert as_lists(plan().epoch(1)) != as_lists(plan(seed=4).epoch(1))


def test_without_shuffle_rows_stay_in_order():
    assert np.concatenate(plan(shuffle=False).epoch(0)).tolist() == list(range(1003))


def test_like_lengths_go_together():
    random = plan(shuffle=False).padding()
    grouped = plan().padding()
    assert grouped < 0.1 < 0.35 < random
    widths = [(len(b) * LENGTHS[b].max(), LENGTHS[b].sum()) for b in plan().epoch(0)]
    positions, real = np.sum(widths, axis=0)
    assert grouped == pytest.approx(1 - real / positions)


def test_lengths_do_not_decide_the_order_of_the_batches():
    longest = [LENGTHS[b].max() for b in plan().epoch(0)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.3


@pytest.fixture(scope="module")
def feed():
    ends = np.concatenate([[0], np.cumsum(LENGTHS[:21])])
    ids = {"token_ids": np.arange(ends[-1], dtype=np.int32)}
    rows = Encoded(ids, ends, np.arange(21, dtype=np.int32), {"token_ids": 0})
    return Feed(rows, Plan(rows.lengths, 4, seed=1), ("token_ids", "padding_mask"))


def seen(dataset, most=None):
    return [y.numpy().tolist() for _, y in itertools.islice(dataset, most)]


def test_one_epoch_as_a_dataset(feed):
    epoch = as_lists(feed.plan.epoch(0))
    assert seen(feed.once()) == epoch, "the targets here are the numbers of the rows"
    assert seen(feed.once()) == epoch, "and again"
    assert int(feed.once().cardinality()) == 6
    x, y = next(iter(feed.once()))
    assert set(x) == {"token_ids", "padding_mask"}
    lengths = feed.rows.lengths[y.numpy()]
    assert x["padding_mask"].numpy().sum(1).tolist() == lengths.tolist()
    assert x["token_ids"].shape[1] == lengths.max()


def test_a_fixed_width(feed):
    fixed = Feed(feed.rows, feed.plan, feed.inputs, length=70)
    assert {x["token_ids"].shape[1] for x, _ in fixed.once()} == {70}


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 4), (2, 5), (1, 6)])
def test_endless_goes_on_from_any_position(feed, epoch, step):
    """A resumed run sees the batches that the interrupted one would have seen."""
    whole = [b for number in range(5) for b in as_lists(feed.plan.epoch(number))]
    start = epoch * feed.plan.steps + step
    assert seen(feed.endless(epoch, step), 9) == whole[start : start + 9]


ROWS = [{"text": text, "label": ["bad", "good"][i % 2]} for i, text in enumerate(tiny.WORDS)]


def test_batches_for_a_script_of_ones_own():
    task = TextClassification(labels=("bad", "good"), max_length=16)
    made = batches(ROWS, task, tiny.tokenizer("bert"), batch_size=5, seed=1)
    first, second = ([y.numpy().tolist() for _, y in made] for _ in range(2))
    assert [len(y) for y in first] == [5, 5, 2]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == [0] * 6 + [1] * 6
    orders = {str([x["token_ids"].numpy().tolist() for x, _ in made]) for _ in range(4)}
    assert len(orders) > 1, "another order in every epoch"
    assert int(made.cardinality()) == 3
    x, _ = next(iter(made))
    assert set(x) == {"token_ids", "segment_ids", "padding_mask"}


def test_batches_in_order():
    task = TextClassification(labels=("bad", "good"), max_length=16)
    tokenizer = tiny.tokenizer("bert")
    made = batches(ROWS, task, tokenizer, batch_size=5, shuffle=False)
    expected = encoder(task, tokenizer)({"text": [row["text"] for row in ROWS]})["token_ids"]
    got = np.concatenate([x["token_ids"].numpy()[:, :3] for x, _ in made])
    np.testing.assert_array_equal(got, expected[:, :3])


def test_batches_of_one_width_with_a_pad_id():
    """As a family without a mask needs them."""
    task = TextClassification(labels=("bad", "good"), max_length=16)
    made = batches(ROWS, task, tiny.tokenizer("bert"), batch_size=5, pad=3, length=16)
    for x, _ in made:
        ids, mask = x["token_ids"].numpy(), x["padding_mask"].numpy()
        assert ids.shape[1] == 16
        assert (ids[mask == 0] == 3).all() and (mask == 0).any()


def test_an_error_of_ours_stays_one_inside_the_graph():
    """TensorFlow would make a `StagingError` of it, which the command line calls our failure."""
    tokenizer = tiny.tokenizer("bert")
    set_template(tokenizer, Template((2,) * 5, (3,) * 5, (3,) * 5, 0))
    task = TextClassification(labels=("a", "b"), pair=True, max_length=8)
    with pytest.raises(InputError, match="leaves no room"):
        encoder(task, tokenizer)({"text": ["a"], "text_pair": ["b"]})


def test_keras_own_fit_is_refused_what_it_cannot_learn():
    tokenizer = tiny.tokenizer("gpt2")
    for task in (TextSimilarity(), CausalLM(packing=True)):
        with pytest.raises(InputError, match="kerasft.train"):
            batches([{"text": "a"}], task, tokenizer)


def test_weights_of_a_script_of_ones_own_have_a_mean_of_1():
    rows = [{"prompt": "a", "completion": c} for c in ("film", "the film was good", "a")]
    data = batches(rows, CausalLM(), tiny.tokenizer("gpt2"), batch_size=3, shuffle=False)
    ((_, targets, weights),) = data.as_numpy_iterator()
    counts = (targets >= 0).sum(axis=1)
    np.testing.assert_allclose(weights, counts / counts.mean(), rtol=1e-6)
