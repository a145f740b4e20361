"""Which versions are served: found in folders, loaded aside, switched to, and given up when the
last request has left."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kerasft._core.errors import InputError
from kerasft.serving.batching import Arrays, Queue
from kerasft.serving.config import ModelConfig
from kerasft.serving.errors import ServingError, code_of, invalid, message_of

LOG = logging.getLogger("kerasft.serving")
_HIGHEST = 2**63 - 1


@dataclass(frozen=True)
class Status:
    """Where a version stands: START, LOADING, AVAILABLE, UNLOADING or END, and why it ended."""

    state: str
    code: str = "OK"
    message: str = ""


class Loaded:
    """A version that answers.

    Args:
        name: of the model.
        version: its number.
        model: what was loaded: `signatures`, `run(signature, inputs)`, `close()`.
        queue: makes the queue of a signature of a function and a hold on this version.
        folder: where it was loaded from.
    """

    def __init__(
        self, name: str, version: int, model: Any, queue: Callable[..., Queue], folder: str = ""
    ):
        self.name, self.version, self.folder = name, version, folder
        self._model, self._make = model, queue
        self._queues: dict[str, Queue] = {}
        self._holds = 0
        self._left = asyncio.Event()
        self._left.set()

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Name -> signature with `method`, `inputs` and `outputs`."""
        return self._model.signatures

    @contextlib.contextmanager
    def hold(self) -> Iterator["Loaded"]:
        """Keep the version loaded."""
        self._holds += 1
        self._left.clear()
        try:
            yield self
        finally:
            self._holds -= 1
            if not self._holds:
                self._left.set()

    async def run(self, signature: str, inputs: Arrays) -> tuple[dict[str, Any], float]:
        """Outputs of a signature, and the seconds that the model ran for them."""
        if signature not in self._queues:
            self._queues[signature] = self._make(partial(self._model.run, signature), self.hold)
        return await self._queues[signature].submit(inputs)

    def answer(self, signature: str, inputs: Arrays) -> dict[str, Any]:
        """Outputs of a signature, in the thread that asks and past every queue."""
        return self._model.run(signature, inputs)

    async def left(self) -> None:
        """Wait until nobody holds the version."""
        await self._left.wait()

    def close(self) -> None:
        """Give the model's memory back."""
        self._model.close()


@dataclass
class _Served:
    """A model's versions; `config` is None once it is not served any more."""

    config: ModelConfig | None = None
    states: dict[int, Status] = field(default_factory=dict)
    loaded: dict[int, Loaded] = field(default_factory=dict)
    failed: dict[int, Any] = field(default_factory=dict)  # version -> what its files looked like
    lost: bool = False  # whether its folder has gone


class Models:
    """The models of a server.

    Args:
        load: a version's folder to a model; called in a thread of its own.
        queue: see `Loaded`.

    Example:
        models = Models(CModel, queue)
        await models.start(single("saved_models/spam"))
        with models.find("spam").hold() as version:
            await version.run("serving_default", inputs)
    """

    def __init__(self, load: Callable[[str], Any], queue: Callable[..., Queue]):
        self._load, self._queue = load, queue
        self._served: dict[str, _Served] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="kerasft-load")
        self._lock = asyncio.Lock()
        self._unloading: set[asyncio.Task] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._served

    @property
    def ready(self) -> bool:
        """Whether every model that is configured answers."""
        return all(served.loaded for served in self._served.values() if served.config)

    def versions(self) -> dict[str, list[int]]:
        """The versions that answer: model -> numbers."""
        return {name: sorted(s.loaded) for name, s in self._served.items() if s.config}

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Loaded:
        """The version that a request asks for: a number, a label's, or the newest.

        Raises:
            ServingError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label, as TF Serving.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        served = self._served.get(name, _Served())
        if label is not None:
            labels = served.config.labels if served.config else {}
            if label not in labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = labels[label]
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        version = max(served.loaded, default=None) if version is None else version
        if version not in served.loaded:
            raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
        return served.loaded[version]

    def status(self, name: str, version: int | None = None) -> dict[int, Status]:
        """Where the versions of a model stand, the newest first, or one of them.

        Raises:
            ServingError: NOT_FOUND.
        """
        states = self._served[name].states if name in self._served else {}
        if version is None:
            if not states:
                raise ServingError("NOT_FOUND", f"Could not find any versions of model {name}")
            return dict(sorted(states.items(), reverse=True))
        if version not in states:
            raise ServingError("NOT_FOUND", f"Could not find version {version} of model {name}")
        return {version: states[version]}

    async def start(self, configs: Sequence[ModelConfig]) -> None:
        """Load what the configs ask for.

        Raises:
            InputError: if a folder or version is not there, or a version does not load.
        """
        try:
            await self.apply(configs)
        except ServingError as error:
            raise InputError(str(error)) from None

    async def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models and no others, without a gap for those that stay.

        Raises:
            ServingError: where nothing was changed: NOT_FOUND for a folder or version that is not
                there; where the rest was changed: FAILED_PRECONDITION for a label of a version that
                is not available, or what a version failed with.
        """
        async with self._lock:
            for config in configs:
                await self._check(config)
            problems = []
            for config in configs:
                problems += await self._update(config)
            wanted = {config.name for config in configs}
            for name, served in self._served.items():
                if name not in wanted:
                    served.config = None
                    for version in list(served.loaded):
                        self._unload(served, version)
        if problems:
            raise problems[0]

    async def _check(self, config: ModelConfig) -> None:
        there = await self._in_thread(versions_in, config.base_path)
        if there is None:
            raise ServingError(
                "NOT_FOUND",
                f"Could not find base path {config.base_path} for servable {config.name}",
            )
        lost = set(config.versions) - set(there) if config.policy == "specific" else set()
        if lost:
            raise ServingError(
                "NOT_FOUND", f"{config.base_path} has no version {min(lost)} of {config.name}"
            )
        if not there:
            raise ServingError(
                "NOT_FOUND",
                f"No versions of servable {config.name} found under base path {config.base_path}: "
                "a version is a folder 1, 2, ... with a saved_model.pb",
            )

    async def _update(self, config: ModelConfig) -> list[ServingError]:
        """Take a config over; what could not be done."""
        served = self._served.setdefault(config.name, _Served())
        old = served.config.labels if served.config else {}
        served.config = ModelConfig(
            config.name, config.base_path, config.policy, config.versions, old
        )
        problems = await self._settle(served)
        for label, version in config.labels.items():
            if version not in served.loaded:
                problems.append(
                    ServingError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label {label} to version {version} of model "
                        f"{config.name}, which is not currently available for inference",
                    )
                )
                return problems
        served.config = config
        return problems

    async def poll(self) -> None:
        """Look for new versions, and for those that have gone."""
        async with self._lock:
            for served in self._served.values():
                if served.config:
                    failed = dict(served.failed)
                    problems = await self._settle(served)
                    for problem in problems if served.failed != failed else ():
                        LOG.error("%s: %s", served.config.name, problem)

    async def _settle(self, served: _Served) -> list[ServingError]:
        """Load what is wanted; only then give up what is not."""
        config = served.config
        there = await self._in_thread(versions_in, config.base_path)
        if there is None:
            if not served.lost:  # once, not at every look
                LOG.error("%s: there is no folder %s any more", config.name, config.base_path)
            served.lost = True
            return []
        served.lost = False
        wanted = config.wanted(list(there))
        problems = [await self._take(served, v, there[v]) for v in wanted if v not in served.loaded]
        if not wanted or any(version in served.loaded for version in wanted):
            for version in set(served.loaded) - set(wanted):
                self._unload(served, version)
        return [problem for problem in problems if problem]

    async def _take(self, served: _Served, version: int, folder: str) -> ServingError | None:
        """Load a version, unless it failed before and its files are the same."""
        name, stamp = served.config.name, await self._in_thread(_stamp, folder)
        if served.failed.get(version) == stamp:
            status = served.states[version]
            return ServingError(status.code, status.message)
        served.states[version] = Status("LOADING")
        try:
            model = await self._in_thread(self._load, folder)
        except Exception as error:
            code, message = code_of(error), f"{folder} does not load: {message_of(error)}"
            served.states[version] = Status("END", code, message)
            served.failed[version] = stamp
            return ServingError(code, message)
        served.failed.pop(version, None)
        served.loaded[version] = Loaded(name, version, model, self._queue, folder)
        served.states[version] = Status("AVAILABLE")
        LOG.info("%s: version %d is available", name, version)
        return None

    def _unload(self, served: _Served, version: int) -> None:
        """Send no more requests to a version; it goes when those that it has are answered."""
        loaded = served.loaded.pop(version)
        leaving = served.states[version] = Status("UNLOADING")

        async def leave() -> None:
            await loaded.left()
            try:
                await self._in_thread(loaded.close)
            except Exception:
                LOG.exception("%s: version %d did not close", loaded.name, version)
            if served.states[version] is leaving:  # not loaded anew meanwhile
                served.states[version] = Status("END")
            LOG.info("%s: version %d is unloaded", loaded.name, version)

        task = asyncio.get_running_loop().create_task(leave())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def stop(self) -> None:
        """Unload everything, when the requests have left."""
        for served in self._served.values():
            served.config = None
            for version in list(served.loaded):
                self._unload(served, version)
        while self._unloading:
            await asyncio.wait(self._unloading)

    def close(self) -> None:
        """Load nothing any more; what has not left by now ends with the process."""
        for task in self._unloading:
            task.cancel()
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._loader, function, *args)


def versions_in(folder: str) -> dict[int, str] | None:
    """The versions in a folder: number -> path; None where there is no folder."""
    if not Path(folder).is_dir():
        return None
    numbers = [n for n in os.listdir(folder) if n.isascii() and n.isdigit()]
    paths = {int(n): os.path.join(folder, n) for n in sorted(numbers) if int(n) <= _HIGHEST}
    return {number: path for number, path in sorted(paths.items()) if os.path.isdir(path)}


def _stamp(folder: str) -> list[tuple]:
    """What the files of a version look like from outside."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # still being written
                seen = os.stat(os.path.join(parent, name))
                found.append((parent, name, seen.st_size, seen.st_mtime_ns))
    return sorted(found)
