"""Requests put together into batches, and their rows handed back to each.

A batch is open for requests of like shapes until a thread takes it. It may be taken once it is full
or has waited for `batch_timeout_micros`; all queues share the threads, first come, first served.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kerasft.serving.config import Batching
from kerasft.serving.errors import ServingError, invalid
from kerasft.serving.metrics import Metrics
from kerasft.serving.tensors import dtype_of

Arrays = Mapping[str, np.ndarray]


@dataclass(eq=False)
class _Task:
    """Rows of one request that wait for their outputs and the seconds that these took."""

    inputs: Arrays
    rows: int
    future: asyncio.Future
    since: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class _Batch:
    queue: "Queue"
    key: Any
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    offered: bool = False
    timer: asyncio.TimerHandle | None = None


class Workers:
    """The threads that run batches, shared by the queues of a server.

    Args:
        threads: batches that run at a time.
    """

    def __init__(self, threads: int):
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="kerasft-run")
        self._free = threads
        self._ready: deque[_Batch] = deque()
        self._running: set[asyncio.Task] = set()

    @property
    def busy(self) -> bool:
        """Whether a batch runs."""
        return bool(self._running)

    def offer(self, batch: _Batch) -> None:
        """Run a batch as soon as a thread is free."""
        self._ready.append(batch)
        self._next()

    def _next(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._work(self._ready.popleft()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _work(self, batch: _Batch) -> None:
        try:
            await batch.queue.run(batch, self._executor)
        finally:
            self._free += 1
            self._next()

    def close(self) -> None:
        """Take no more; what runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class Queue:
    """The requests for one signature of one version.

    Args:
        run: arrays of a batch to its outputs; called in a thread.
        hold: gives a context in which what `run` needs stays loaded, even where the clients have
            gone and nobody else holds it.
        workers: the threads.
        metrics: counts batches.
        batching: how requests are put together; None: each request runs by itself.
        most_waiting: requests that may wait where they run by themselves.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        hold: Callable[[], AbstractContextManager],
        workers: Workers,
        metrics: Metrics,
        batching: Batching | None = None,
        most_waiting: int = 1000,
    ):
        self._run, self._hold, self._workers, self._metrics = run, hold, workers, metrics
        self._batching = batching
        self._most_waiting = batching.max_enqueued_batches if batching else most_waiting
        self._open: dict[Any, _Batch] = {}
        self._waiting = 0

    async def submit(self, inputs: Arrays) -> tuple[dict[str, np.ndarray], float]:
        """Answer one request: its outputs, and the seconds that its batch ran.

        Raises:
            ServingError: UNAVAILABLE where too many wait, or what the model itself refuses.
        """
        if self._batching is None:
            return await self._add(inputs, 0)
        rows, most = _rows_of(inputs), self._batching.most
        if rows <= most:
            return await self._add(inputs, rows)
        limit = self._batching.max_batch_size
        if not self._batching.enable_large_batch_splitting:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {limit}")
        parts = [{n: v[i : i + most] for n, v in inputs.items()} for i in range(0, rows, most)]
        answers = await asyncio.gather(*(self._add(part, _rows_of(part)) for part in parts))
        joined = {n: np.concatenate([a[n] for a, _ in answers]) for n in answers[0][0]}
        return joined, sum(seconds for _, seconds in answers)

    async def _add(self, inputs: Arrays, rows: int) -> tuple[dict[str, np.ndarray], float]:
        task = _Task(inputs, rows, asyncio.get_running_loop().create_future())
        key = self._key(inputs)
        batch = self._open.get(key)
        if batch is not None and batch.rows + rows > self._batching.most:
            self._offer(batch)
            batch = None
        if batch is None:
            batch = self._begin(key)
        batch.tasks.append(task)
        batch.rows += rows
        if self._batching is None or batch.rows == self._batching.most:
            self._offer(batch)
        return await task.future

    def _key(self, inputs: Arrays) -> Any:
        """What requests of one batch have in common; of unlike lengths only where they are
        filled up."""
        if self._batching is None:
            return object()
        loose = self._batching.pad_variable_length_inputs
        return tuple(
            # Nothing fills an empty row up.
            (n, dtype_of(v), v.ndim if loose and v.size else v.shape[1:])
            for n, v in sorted(inputs.items())
        )

    def _begin(self, key: Any) -> _Batch:
        if self._waiting >= self._most_waiting:
            raise ServingError(
                "UNAVAILABLE",
                "The batch scheduling queue to which this task was submitted is full; "
                f"{self._waiting} batches wait",
            )
        self._waiting += 1
        batch = _Batch(self, key)
        if self._batching is not None:
            self._open[key] = batch
            delay = self._batching.batch_timeout_micros / 1e6
            loop = asyncio.get_running_loop()
            batch.timer = loop.call_later(delay, self._ripe, batch)
        return batch

    def _ripe(self, batch: _Batch) -> None:
        """A batch has waited long enough. It stays open until a thread takes it."""
        if not batch.offered:
            batch.offered = True
            self._workers.offer(batch)

    def _offer(self, batch: _Batch) -> None:
        """A batch is full: no request joins it any more."""
        self._close(batch)
        self._ripe(batch)

    def _close(self, batch: _Batch) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]

    async def run(self, batch: _Batch, executor: ThreadPoolExecutor) -> None:
        """Run a batch that a thread is free for; requests that nobody waits for are left out."""
        self._close(batch)
        self._waiting -= 1
        tasks = [task for task in batch.tasks if not task.future.done()]
        for task in tasks:
            self._metrics.queued(time.perf_counter() - task.since)
        if not tasks:
            return
        try:
            await self._answer(tasks, executor)
        except Exception as error:
            if len(tasks) == 1:
                _fail(tasks[0], error)
                return
            # One of them may be at fault, and the others are somebody else's.
            for task in tasks:
                if task.future.done():  # its client has gone meanwhile
                    continue
                try:
                    await self._answer([task], executor)
                except Exception as own:
                    _fail(task, own)

    async def _answer(self, tasks: list[_Task], executor: ThreadPoolExecutor) -> None:
        rows = sum(task.rows for task in tasks)
        padding = self._batching.filled(rows) - rows if self._batching and rows else 0
        call = partial(self._together, [task.inputs for task in tasks], padding)
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        with self._hold():
            outputs = await loop.run_in_executor(executor, call)
        seconds = time.perf_counter() - began
        if self._batching is not None:
            self._metrics.batch(rows + padding, padding)
            _check_batch(outputs, rows + padding)
        start = 0
        for task in tasks:
            end = start + task.rows
            own = {n: v[start:end] for n, v in outputs.items()} if self._batching else outputs
            start = end
            if not task.future.done():
                task.future.set_result((dict(own), seconds))

    def _together(self, parts: list[Arrays], padding: int) -> Arrays:
        """Run the rows of several requests as one batch, in a thread."""
        inputs = parts[0] if len(parts) == 1 else _joined(parts)
        if padding:
            inputs = {n: np.concatenate([v, v[-1:].repeat(padding, 0)]) for n, v in inputs.items()}
        return self._run(inputs)


def _fail(task: _Task, error: Exception) -> None:
    if not task.future.done():
        task.future.set_exception(error)


def _rows_of(inputs: Arrays) -> int:
    """Rows of a request."""
    if not inputs:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(value.ndim == 0 for value in inputs.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(value) for value in inputs.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _joined(parts: list[Arrays]) -> dict[str, np.ndarray]:
    """The rows of several requests, of unlike length filled up by their request's first value."""
    joined = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        longest = np.max([value.shape[1:] for value in values], axis=0)
        joined[name] = np.concatenate([_padded(value, longest) for value in values])
    return joined


def _padded(value: np.ndarray, inner: np.ndarray) -> np.ndarray:
    shape = (len(value), *(int(size) for size in inner))
    if value.shape == shape:
        return value
    made = np.full(shape, value.flat[0], value.dtype)
    made[tuple(slice(size) for size in value.shape)] = value
    return made


def _check_batch(outputs: Arrays, rows: int) -> None:
    for value in outputs.values():
        if value.ndim == 0:
            raise ServingError("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")
        if len(value) != rows:
            raise ServingError(
                "FAILED_PRECONDITION",
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors",
            )
