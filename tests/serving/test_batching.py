"""Requests that share a batch: each gets its own rows, and nobody pays for a neighbour."""

import asyncio
import contextlib
import time

import numpy as np
import pytest
from half_plus_two import HalfPlusTwo, Refused

from kerasft._core.errors import InputError
from kerasft.serving import Batching, ServingError
from kerasft.serving.batching import Queue, Workers
from kerasft.serving.errors import code_of
from kerasft.serving.metrics import Metrics

SLOW = 200_000  # microseconds: longer than a test needs to send its requests


class Rig:
    """A queue in front of half_plus_two, for one test's event loop."""

    def __init__(self, signature="serving_default", threads=1, **options):
        self.model, self.workers, self.metrics = HalfPlusTwo(2.0), Workers(threads), Metrics()
        self.model.gate.set()
        batching = Batching(**options) if options else None
        self.held = 0
        self.queue = Queue(
            lambda inputs: self.model.run(signature, inputs),
            self.hold,
            self.workers,
            self.metrics,
            batching,
        )

    @contextlib.contextmanager
    def hold(self):
        self.held += 1
        yield
        self.held -= 1

    async def ask(self, *x):
        outputs, _ = await self.queue.submit({"x": np.array(x, np.float32)})
        return outputs["y"].tolist()

    async def all(self, *requests):
        asked = [self.ask(*x) for x in requests]
        return await asyncio.gather(*asked, return_exceptions=True)

    @property
    def sizes(self):
        return [len(next(iter(batch.values()))) for batch in self.model.batches]


def test_concurrent_requests_share_a_run_and_get_their_own_rows():
    async def go():
        rig = Rig(max_batch_size=100, batch_timeout_micros=20_000)
        requests = [[float(i), float(i) + 0.5] for i in range(20)]
        answers = await rig.all(*requests)
        # Fails where rows are handed out from 0 to each, or in another order.
        assert answers == [[x / 2 + 2 for x in request] for request in requests]
        assert rig.sizes == [40]
        assert rig.metrics.total("/tensorflow/serving/batching_session/wrapped_run_count") == 1

    asyncio.run(go())


def test_without_batching_each_request_runs_by_itself():
    async def go():
        rig = Rig()
        assert await rig.all([1.0], [2.0]) == [[2.5], [3.0]]
        assert rig.sizes == [1, 1]

    asyncio.run(go())


def test_a_full_batch_does_not_wait():
    async def go():
        rig = Rig(max_batch_size=2, batch_timeout_micros=10_000_000)
        began = time.monotonic()
        assert await rig.all([1.0], [2.0]) == [[2.5], [3.0]]
        assert time.monotonic() - began < 5
        assert rig.sizes == [2]

    asyncio.run(go())


def test_a_batch_waits_for_its_time_and_no_longer():
    async def go():
        rig = Rig(max_batch_size=10, batch_timeout_micros=100_000)
        began = time.monotonic()
        await rig.ask(1.0)
        assert 0.09 < time.monotonic() - began < 5

    asyncio.run(go())


def test_while_the_threads_are_busy_a_batch_grows():
    async def go():
        rig = Rig(max_batch_size=10)
        rig.model.gate.clear()
        first = asyncio.create_task(rig.ask(1.0))
        await asyncio.sleep(0.02)  # it runs, and waits at the gate
        rest = [asyncio.create_task(rig.ask(float(i))) for i in range(3)]
        await asyncio.sleep(0.02)
        rest.append(asyncio.create_task(rig.ask(3.0)))
        await asyncio.sleep(0.02)
        rig.model.gate.set()
        await asyncio.gather(first, *rest)
        # Without growing it would be [1, 3, 1].
        assert rig.sizes == [1, 4]

    asyncio.run(go())


def test_requests_that_do_not_fit_begin_the_next_batch():
    async def go():
        rig = Rig(max_batch_size=3, batch_timeout_micros=1000)
        answers = await rig.all([1.0, 2.0], [5.0, 5.0], [7.0])
        assert answers == [[2.5, 3.0], [4.5, 4.5], [5.5]]
        assert rig.sizes == [2, 3]

    asyncio.run(go())


def test_sizes_are_filled_up_by_the_last_row_and_cut_again():
    async def go():
        rig = Rig(max_batch_size=8, batch_timeout_micros=1000, allowed_batch_sizes=(4, 8))
        assert await rig.all([1.0], [2.0]) == [[2.5], [3.0]]
        (batch,) = rig.model.batches
        # Fails where it is filled up by 0, by the first row, or not at all.
        assert batch["x"].tolist() == [1.0, 2.0, 2.0, 2.0]
        assert (await rig.all([0.0] * 5))[0] == [2.0] * 5
        assert rig.sizes == [4, 8]

    asyncio.run(go())


def test_a_mistake_in_one_request_leaves_the_others_right():
    async def go():
        rig = Rig(max_batch_size=10, batch_timeout_micros=1000)
        good, refused, also, failed = await rig.all([1.0], [-1.0], [5.0], [-2.0])
        assert (good, also) == ([2.5], [4.5])
        assert code_of(refused) == "INVALID_ARGUMENT" and "a row of -1" in str(refused)
        assert isinstance(failed, ValueError)
        # The mixed batch failed before it was counted as run; then each ran by itself.
        assert rig.sizes == [4, 1, 1, 1, 1]

    asyncio.run(go())


def test_a_request_that_fails_alone_is_not_run_again():
    async def go():
        rig = Rig(max_batch_size=10)
        (error,) = await rig.all([-1.0])
        assert code_of(error) == "INVALID_ARGUMENT"
        assert rig.sizes == [1]

    asyncio.run(go())


def test_unlike_shapes_run_apart_or_filled_up_by_their_first_value():
    async def go(padded):
        rig = Rig(
            "lengths",
            max_batch_size=10,
            batch_timeout_micros=1000,
            pad_variable_length_inputs=padded,
        )
        requests = [[[1, 2, 3]], [[4]], [[5, 6, 7]]]
        asked = [rig.queue.submit({"ids": np.array(ids, np.int32)}) for ids in requests]
        return rig, [outputs["total"].tolist() for outputs, _ in await asyncio.gather(*asked)]

    rig, totals = asyncio.run(go(False))
    assert totals == [[6], [4], [18]]
    assert sorted(rig.sizes) == [1, 2]
    rig, totals = asyncio.run(go(True))
    assert totals == [[6], [12], [18]]  # 4 stands three times, as in TF Serving
    assert rig.sizes == [3]


def test_more_than_the_queue_holds_is_refused_and_what_waits_is_answered():
    async def go():
        rig = Rig(max_batch_size=1, max_enqueued_batches=2)
        rig.model.gate.clear()
        first = asyncio.create_task(rig.ask(1.0))
        await asyncio.sleep(0.02)
        waiting = [asyncio.create_task(rig.ask(float(i))) for i in (2, 5)]
        await asyncio.sleep(0.02)
        with pytest.raises(ServingError, match="queue to which this task was submitted is full"):
            await rig.ask(3.0)
        rig.model.gate.set()
        assert await asyncio.gather(first, *waiting) == [[2.5], [3.0], [4.5]]
        # The places are free again; fails where a refused request keeps one.
        assert await rig.ask(1.0) == [2.5]

    asyncio.run(go())


def test_a_request_that_nobody_waits_for_does_not_run():
    async def go():
        rig = Rig(max_batch_size=2)
        rig.model.gate.clear()
        first = asyncio.create_task(rig.ask(1.0))
        await asyncio.sleep(0.02)
        gone, stays = asyncio.create_task(rig.ask(-1.0)), asyncio.create_task(rig.ask(5.0))
        await asyncio.sleep(0.02)
        gone.cancel()
        rig.model.gate.set()
        assert await asyncio.gather(first, stays) == [[2.5], [4.5]]
        # Its row of -1 would have failed the batch.
        assert rig.sizes == [1, 1]

    asyncio.run(go())


def test_what_runs_holds_the_version_when_its_client_has_gone():
    async def go():
        rig = Rig()
        rig.model.gate.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await rig.ask(1.0)
        assert rig.held == 1
        rig.model.gate.set()
        while rig.workers.busy:
            await asyncio.sleep(0.005)
        assert rig.held == 0

    asyncio.run(go())


def test_large_requests_are_refused_or_divided():
    async def go():
        rig = Rig(max_batch_size=4)
        with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch"):
            await rig.ask(*[1.0] * 5)
        rig = Rig(max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=2)
        assert await rig.ask(1.0, 2.0, 5.0, 7.0, 9.0) == [2.5, 3.0, 4.5, 5.5, 6.5]
        assert sorted(rig.sizes) == [1, 2, 2]
        with pytest.raises(Refused, match="a row of -1") as error:
            await rig.ask(1.0, 2.0, 5.0, -1.0, 9.0)
        assert code_of(error.value) == "INVALID_ARGUMENT"

    asyncio.run(go())


def test_outputs_without_the_batch_are_refused():
    async def go():
        rig = Rig("flat", max_batch_size=4)
        with pytest.raises(ServingError, match="0 dimensions"):
            await rig.ask(1.0)

    asyncio.run(go())


def test_inputs_that_are_no_batch_are_refused():
    async def go():
        rig = Rig("named", max_batch_size=4)
        one, two = np.zeros((1, 2), np.float32), np.array([b"a", b"b"], object)
        for inputs in ({}, {"a": one, "text": two}, {"a": np.float32(1)}):
            with pytest.raises(ServingError) as error:
                await rig.queue.submit(inputs)
            assert error.value.code == "INVALID_ARGUMENT"

    asyncio.run(go())


def test_threads_run_batches_side_by_side():
    async def go():
        rig = Rig(threads=2, max_batch_size=1)
        rig.model.gate.clear()
        asked = [asyncio.create_task(rig.ask(float(i))) for i in range(3)]
        await asyncio.sleep(0.05)
        assert rig.model.running == 2
        rig.model.gate.set()
        await asyncio.gather(*asked)

    asyncio.run(go())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch_size": 0},
        {"batch_timeout_micros": -1},
        {"max_enqueued_batches": 0},
        {"num_batch_threads": 0},
        {"max_batch_size": 8, "allowed_batch_sizes": (4, 6)},
        {"max_batch_size": 8, "allowed_batch_sizes": (8, 4, 8)},
        {"max_batch_size": 8, "max_execution_batch_size": 9},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="Received: "):
        Batching(**wrong)
