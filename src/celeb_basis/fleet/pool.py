"""Pool: processes on Ray that load what they need once and take work in batches; those lost are replaced."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from ..errors import CelebBasisError, FleetError, how_to_install

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # workers that an item may take with it, and that may end while they start
CONNECT = 10.0  # seconds for an address to be looked up, to take a connection and to answer
PATIENCE = 60.0  # seconds without a worker, after which that is said
LOCAL = "local"
# Ray reads these when it is imported. It would report to its makers, print what happens to its processes among the
# answers on standard output, and warn of a variable of its own that will change.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# A Ray of this machine alone would listen on every network, and run what anybody sends. With these it listens to this
# machine, as it does on macOS and Windows by itself, and to those of its users who know the token.
LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
OBJECTS = 2**28  # bytes of a local Ray's store of shared objects; batches and answers are small
# What a client of gRPC, which Ray speaks, says first: that it speaks HTTP/2, and that it has no settings of its own.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = b"\4"  # the fourth byte of what a server answers: the kind of its first frame

Batch = list[Any]
Answers = list[Any]


@dataclass(frozen=True)
class Needs:
    """What a worker found when it had loaded everything.

    resident: bytes of its process. free: bytes left on its device. bytes_per_item: what an item takes.
    max_batch: items that are worth having in one batch.
    """

    resident: int
    free: int
    bytes_per_item: int
    max_batch: int


class Work(Protocol):
    """What a worker does. It is pickled on its way there, so it loads large things in `load`.

    A CelebBasisError in `process` ends the run, any other error there counts as the end of the worker.
    """

    @property
    def device(self) -> str | None:
        """Return the device asked for; "cpu" leaves GPUs alone."""

    def load(self) -> Needs:
        """Load what is needed."""
        ...

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""
        ...

    def process(self, batch: Batch) -> Answers:
        """Return the answers to a batch."""
        ...


class _Worker:
    def __init__(self, work: Work) -> None:
        self._work = work

    def load(self) -> Needs:
        return self._work.load()

    def set_threads(self, threads: int) -> None:
        self._work.set_threads(threads)

    def process(self, batch: Batch) -> Answers:
        return self._work.process(batch)


@dataclass(frozen=True)
class Plan:
    """How many workers there are, what each gets, and how many items it takes at once."""

    workers: int
    threads: int
    gpus: int
    memory: int
    at_once: int


def run(
    work: Work,
    items: Iterable[Any],
    total: int,
    *,
    address: str = LOCAL,
    workers: int | None = None,
    at_once: int | None = None,
) -> Iterator[tuple[Batch, Answers | FleetError]]:
    """Do work on items; yield each batch with its answers when they come, in no order.

    Items are read as workers become free. A batch whose worker was lost is done again by others, one item at a time;
    an item with which ATTEMPTS workers were lost is answered by an error.

    total: how many items there are, so that the last batches are small and workers end together.
    address: of a Ray cluster; "local", the default, starts one on this machine. What is connected already is used.
    workers, at_once: how many, and how many items a batch has at most; by default as many as there is room for.

    Raises FleetError where no worker can be started, and the CelebBasisErrors that `load` and `process` raise.
    """
    with _cluster(address) as ray:
        pool = _Pool(ray, work, workers, at_once)
        try:
            yield from pool.run(iter(items), total)
        finally:
            pool.close()


class _Pool:
    """The workers of one run."""

    def __init__(self, ray: Any, work: Work, workers: int | None, at_once: int | None) -> None:
        self._ray, self._wanted, self._at_once = ray, workers, at_once
        self._work = ray.put(work)
        self._class = ray.remote(_Worker)
        self._gpus = 0 if work.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
        self._plan: Plan | None = None
        self._starting: dict[Any, Any] = {}  # answers to come, and the workers that will give them
        self._working: dict[Any, tuple[Any, Batch, int]] = {}
        self._idle: list[Any] = []
        self._again: deque[tuple[Batch, int]] = deque()  # batches, and how often they were tried
        self._failed = 0  # starts since something went well

    def run(self, items: Iterator[Any], total: int) -> Iterator[tuple[Batch, Answers | FleetError]]:
        left = total
        while True:
            while self.workers < (self._plan.workers if self._plan else 1) and self._failed < ATTEMPTS:
                self._add()
            while self._idle and self._plan:
                if not self._again:
                    size = min(self._plan.at_once, max(1, -(-left // self._plan.workers)))
                    batch = list(islice(items, size))
                    if not batch:
                        break
                    left -= len(batch)
                    self._again.append((batch, 0))
                batch, tried = self._again.popleft()
                worker = self._idle.pop()
                self._working[worker.process.remote(batch)] = (worker, batch, tried)
            if not self._working and self._idle:
                break  # and whoever is still starting is not needed
            done, _ = self._ray.wait([*self._starting, *self._working], timeout=PATIENCE)
            if not done and not self._working:
                logger.info("no worker has started yet: the machines may be busy, or still loading the model")
            for answer in done:
                if answer in self._starting:
                    self._started(answer)
                else:
                    yield from self._finished(answer)

    @property
    def workers(self) -> int:
        """Return how many there are, at work or about to."""
        return len(self._starting) + len(self._working) + len(self._idle)

    def _add(self) -> None:
        """Ask for one more worker, which starts when there is room for it."""
        plan = self._plan or Plan(1, 1, 1 if self._gpus else 0, 0, 1)
        options = {"num_cpus": plan.threads, "num_gpus": plan.gpus, "memory": plan.memory or None}
        worker = self._class.options(**options).remote(self._work)
        self._starting[worker.load.remote()] = worker

    def _started(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            needs = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(worker)
            self._not_started(error)
            return
        self._failed = 0
        if self._plan is None:
            self._plan = self._planned(needs)
            logger.info(
                f"{self._plan.workers} workers on {'GPUs' if self._gpus else f'{self._plan.threads} threads each'}, "
                f"at most {self._plan.at_once} people at once in each"
            )
        worker.set_threads.remote(self._plan.threads)
        self._idle.append(worker)

    def _not_started(self, error: Exception) -> None:
        """Count a start that failed; raise its error where no worker is left, and another start would not help."""
        self._failed += 1
        cause = getattr(error, "cause", None)
        final = cause if isinstance(cause, CelebBasisError) else None  # the user can put it right, trying again cannot
        if final and self._plan:
            self._plan = replace(self._plan, workers=self._plan.workers - 1)
        if not final and self._failed < ATTEMPTS:
            if not self.workers:
                time.sleep(2**self._failed)  # what is wrong, such as too little memory, may pass
            return
        if self.workers:
            logger.warning(f"a worker cannot start, the others go on: {_reason(error)}")
        elif final:
            raise final from None
        else:
            raise FleetError(f"no worker can be started: {_reason(error)}") from None

    def close(self) -> None:
        """End all workers."""
        busy = [worker for worker, _, _ in self._working.values()]
        for worker in (*self._starting.values(), *busy, *self._idle):
            self._ray.kill(worker)

    def _planned(self, needs: Needs) -> Plan:
        """Return what a cluster has room for: a worker on every GPU, or as many on the CPUs as memory holds."""
        found = self._ray.cluster_resources()
        cpus, memory = max(1, int(found.get("CPU", 1))), int(found.get("memory", 0))
        one = needs.resident + needs.bytes_per_item
        if self._gpus:
            workers, room = self._wanted or self._gpus, needs.free
        else:
            workers = self._wanted or min(cpus, max(1, memory // one))
            room = memory // workers - needs.resident
        at_once = self._at_once or min(needs.max_batch, max(1, room // max(1, needs.bytes_per_item)))
        threads = 1 if self._gpus else max(1, cpus // workers)
        return Plan(workers, threads, 1 if self._gpus else 0, 0 if self._gpus else min(one, memory // workers), at_once)

    def _finished(self, answer: Any) -> Iterator[tuple[Batch, Answers | FleetError]]:
        worker, batch, tried = self._working.pop(answer)
        self._failed = 0
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            if isinstance(wrong := getattr(error, "cause", None), CelebBasisError):
                raise wrong from None
            logger.warning(f"a worker was lost, its work is done again: {_reason(error)}")
            self._ray.kill(worker)
            if tried + 1 < ATTEMPTS:
                self._again += [([item], tried + 1) for item in batch]
            else:
                yield batch, FleetError(f"{ATTEMPTS} workers were lost with it: {_reason(error)}")
            return
        self._idle.append(worker)
        yield batch, found


def _reason(error: Exception) -> str:
    """Return Ray's error in one line: the last one, which says what happened, and not where."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    return " ".join(str(error).split())[:300]


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Yield Ray, connected for the block unless it is already."""
    _check_answers(address)
    for name, value in (ENVIRONMENT | (LOCAL_ENVIRONMENT if address == LOCAL else {})).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise FleetError(f"a fleet needs Ray: {how_to_install('fleet')}") from None
    if ray.is_initialized():
        yield ray
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    local = {"include_dashboard": False, "object_store_memory": OBJECTS} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (OSError, RuntimeError, ValueError, OverflowError, ImportError) as error:
        raise _not_connected(address, error) from None
    if main:
        signal.signal(signal.SIGTERM, before)  # Ray's own handler would end the process with a traceback
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise FleetError unless something at an address answers as gRPC does; Ray itself would try for minutes."""
    asked = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = asked.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    found: list[Exception | None] = []

    def ask() -> None:
        try:
            _greet(host.strip("[]"), int(port))
            found.append(None)
        except (OSError, ValueError, OverflowError) as error:
            found.append(error)

    # In a thread, as name servers take their own time, and a name may have many addresses.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(CONNECT)
    if error := found[0] if found else TimeoutError("timed out"):
        raise _not_connected(address, error) from None


def _greet(host: str, port: int) -> None:
    """Raise OSError unless what listens there begins with the settings with which gRPC begins."""
    with socket.create_connection((host, port), timeout=CONNECT) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        connection.sendall(GREETING)
        with connection.makefile("rb") as answer:
            if answer.read(4)[3:] != SETTINGS:
                raise OSError("what listens there is no Ray")


def _not_connected(address: str, error: Exception) -> FleetError:
    """Return the error for a Ray that cannot be started or reached."""
    said = " ".join(str(error).split())[:300]
    if address == LOCAL:
        return FleetError(f"Ray cannot start here: {said}")
    return FleetError(f"there is no cluster at {address}: {said}", argument="address")
