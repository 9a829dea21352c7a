"""Run the jobs of a grid on a Ray cluster.

A job is a task of Ray Core, which starts the same process as everywhere. Ray tries a task again elsewhere
when its worker or its node is lost. Where a worker does not see the output folder, the prepared run travels
to it, and the fold and its checkpoints travel back.
"""

import io
import shutil
import signal
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foldsmith.errors import InputError
from foldsmith.grid.executors import SAVES, TRIES, Here, failed, saved_at
from foldsmith.grid.jobs import FOLD, PREPARE, SOURCE, Job, JobKilled, Outcome, run_job
from foldsmith.process.files import atomic_write
from foldsmith.process.signals import SIGNALS
from foldsmith.run.paths import RunPaths

TOKEN = ".grid-token"  # a file in the output folder, by which a worker knows that it sees the folder
SCRATCH = "foldsmith-grid"  # begins the name of a folder of a machine that does not see it
IN_FLIGHT = 1000  # jobs that Ray holds at a time: the driver's memory does not grow with the grid
LOOKS = 2.0  # seconds after which a worker looks for a new checkpoint


@dataclass(frozen=True)
class Carried:
    """What a job on a machine without the output folder needs: token and path of that folder, the run.

    `prepared` is the run's folder without its folds, as a tar file.
    """

    token: str
    output: str
    competition: str
    prepared: bytes = b""


class OnRay:
    """Run jobs as tasks of a Ray cluster: one that is started here, or that of `address`."""

    def __init__(self, address: str, output: Path, competition: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "--address needs Ray: .venv/bin/python -m pip install -r requirements-grid.txt; without it "
                "leave --address out, and the same runs are done here in turn."
            ) from error
        self._ray = ray
        self._output, self._competition = output, competition
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        ray.init(
            address="local" if address == "here" else address,
            runtime_env={"working_dir": str(SOURCE), "env_vars": {"PYTHONDONTWRITEBYTECODE": "1"}},
            log_to_driver=False,
            ignore_reinit_error=True,
        )
        for number, handler in handlers.items():  # Ray has put its own in their place, which abort
            signal.signal(number, handler)
        resources = ray.cluster_resources()
        self.slots = max(1, int(resources.get("CPU", 1)))
        self.gpus = resources.get("GPU", 0.0)
        self._token = token_of(output / competition)
        # on the node of this program, which outlives the others; 0 cores, so that it takes none from a job
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._post = ray.remote(PostOffice).options(num_cpus=0, scheduling_strategy=here).remote(self._token)
        self._waiting: list[Job] = []
        self._running: dict[Any, Job] = {}
        self._is_stopped = False
        self._here = Here(1)  # for what needs the output folder, where machines do not see it
        self.shares = self._all_see_output()
        # a lost worker or node, and a killed process, are tried again; any other exception is not
        self._task = ray.remote(run_on_worker)

    def submit(self, job: Job) -> None:
        self._require_feasible(job)
        if job.kind != FOLD and not self.shares:
            self._here.submit(job)
            return
        self._waiting.append(job)
        self._start()

    def withdraw(self, run: str) -> int:
        kept = [job for job in self._waiting if job.run != run]
        withdrawn, self._waiting = len(self._waiting) - len(kept), kept
        return withdrawn + self._here.withdraw(run)

    def finished(self, timeout: float) -> list[tuple[Job, Outcome]]:
        self._start()
        ended = self._here.finished(0.0 if self._running else timeout)
        if ended or not self._running:
            return ended
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if done:  # and all others that have ended meanwhile
            done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running[reference], self._outcome(reference)) for reference in done]

    def stop(self) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self._waiting.clear()
        for reference in self._running:
            self._ray.cancel(reference)  # an interruption in the worker, which ends the process
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=SAVES)
        self._here.stop()
        self._ray.shutdown()

    def _all_see_output(self) -> bool:
        """Return whether every machine of the cluster sees the output folder."""
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look = self._ray.remote(sees_output)
        answers = [
            look.options(num_cpus=0, scheduling_strategy=affinity(node["NodeID"], soft=False)).remote(
                self._empty()
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        return all(self._ray.get(answers))

    def _require_feasible(self, job: Job) -> None:
        """Raise InputError if no machine of the cluster has what a job asks for: Ray would wait for ever."""
        needs = {"CPU": job.needs.cpus, "GPU": job.needs.gpus, "memory": job.needs.memory}
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(have.get(name, 0) >= need for name, need in needs.items()) for have in machines):
            raise InputError(
                f"a job asks for {job.needs.cpus} cores, {job.needs.gpus:g} GPUs and "
                f"{job.needs.memory / 2**30:g} GiB, which no machine of the cluster has; lower --cpus or "
                "--gpus."
            )

    def _empty(self) -> Carried:
        return Carried(self._token, str(self._output), self._competition)

    def _start(self) -> None:
        while self._waiting and len(self._running) < IN_FLIGHT:
            job = self._waiting.pop(0)
            needs = job.needs
            task = self._task.options(
                name=job.name,
                num_cpus=needs.cpus,
                num_gpus=needs.gpus,
                memory=needs.memory,
                max_retries=TRIES - 1,  # after the first try
                retry_exceptions=[JobKilled],
            )
            self._running[task.remote(job, self._carried(job), self._post)] = job

    def _carried(self, job: Job) -> Carried:
        if job.kind == FOLD and not self.shares:
            root = RunPaths(self._output / self._competition / job.run).root
            return replace(self._empty(), prepared=pack(root, without_folds))
        return self._empty()

    def _outcome(self, reference: Any) -> Outcome:
        job = self._running.pop(reference)
        try:
            outcome, fold = self._ray.get(reference)
        except Exception as error:  # Ray's own: the worker died too often, or the task was cancelled
            return failed(job, getattr(error, "cause", None) or error)
        if fold:
            unpack(fold, RunPaths(self._output / self._competition / job.run).fold(job.fold))
        return outcome


class PostOffice:
    """Keeps the checkpoints of workers that do not see the output folder, and counts tries."""

    def __init__(self, token: str) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"{SCRATCH}-{token}" / "checkpoints"
        self._begun: dict[str, tuple[int, float, float]] = {}  # tries, seconds lost, the last time of begin

    def begin(self, name: str, saved: float) -> tuple[int, float]:
        """Note that a job begins, with the time of its checkpoint (0: none); return tries and time lost."""
        tries, lost, last = self._begun.get(name, (0, 0.0, 0.0))
        now = time.time()
        if tries:
            lost += now - max(last, saved)
        self._begun[name] = (tries + 1, lost, now)
        return tries + 1, lost

    def put(self, name: str, checkpoint: bytes) -> None:
        """Keep the checkpoint of a job; an empty one removes it."""
        path = self._folder / name
        if not checkpoint:
            path.unlink(missing_ok=True)
            return
        with atomic_write(path) as temporary:
            temporary.write_bytes(checkpoint)

    def get(self, name: str) -> bytes:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else b""


def run_on_worker(job: Job, carried: Carried, post: Any) -> tuple[Outcome, bytes]:
    """Run a job on a machine of the cluster; return its outcome and, if it must travel, its fold's files."""
    import ray

    if sees_output(carried):
        tries, lost = ray.get(post.begin.remote(job.name, saved_at(job)))
        return replace(run_job(job), tries=tries, lost=lost), b""
    if job.kind != FOLD:
        raise RuntimeError(f"{job.name} needs the output folder {carried.output}, which is not here")
    return run_away(job, carried, post)


def sees_output(carried: Carried) -> bool:
    """Return whether this machine sees the output folder of the grid."""
    token = Path(carried.output) / carried.competition / TOKEN
    return token.is_file() and token.read_text() == carried.token


def run_away(job: Job, carried: Carried, post: Any) -> tuple[Outcome, bytes]:
    """Train a fold in a folder of this machine, and return its files as a tar file.

    The folder is the job's own, as several folds of a run may be here; decoded images are shared.
    """
    import ray

    scratch = Path(tempfile.gettempdir()) / f"{SCRATCH}-{carried.token}"
    own = scratch / job.name.replace(" ", "-")
    run = RunPaths(own / carried.competition / job.run)
    words = with_output(job.words, own)
    if not run.identity.is_file():
        unpack(carried.prepared, run.root)
    decoded = scratch / "cache"
    decoded.mkdir(parents=True, exist_ok=True)
    if not run.cache_root.exists():
        run.cache_root.symlink_to(decoded)
    prepare = replace(job, kind=PREPARE, stage="run", words=(*without_fold(words), "--until", "pretrain"))
    prepared = run_job(prepare)
    if prepared.status:
        return prepared, b""
    fold, name = run.of_fold(job.fold), job.name.replace(" ", "-")
    tries, lost = ray.get(post.begin.remote(job.name, saved_at(replace(job, words=words))))
    if not fold.checkpoint.is_file():
        checkpoint = ray.get(post.get.remote(name))
        if checkpoint:
            with atomic_write(fold.checkpoint) as temporary:
                temporary.write_bytes(checkpoint)
    ended = threading.Event()
    sender = threading.Thread(target=send_checkpoints, args=(fold.checkpoint, name, post, ended))
    sender.start()
    try:
        outcome = replace(run_job(replace(job, words=words)), tries=tries, lost=lost)
    finally:
        ended.set()
        sender.join()
    if outcome.status:
        return outcome, b""
    files = pack(fold.root, lambda name: True)
    ray.get(post.put.remote(name, b""))
    shutil.rmtree(own)
    return outcome, files


def send_checkpoints(path: Path, name: str, post: Any, ended: threading.Event) -> None:
    """Send every new checkpoint of a job, until it has ended, and its last one."""
    import ray

    sent, is_last = 0, False
    while not is_last:
        is_last = ended.wait(LOOKS)
        try:
            time_written = path.stat().st_mtime_ns
            if time_written != sent:
                ray.get(post.put.remote(name, path.read_bytes()))
                sent = time_written
        except FileNotFoundError:  # none yet, or the fold is trained
            continue


def token_of(folder: Path) -> str:
    """Return the token of an output folder, by which machines know it; a new one if it has none."""
    path = folder / TOKEN
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(uuid.uuid4().hex)
    return path.read_text()


def with_output(words: Sequence[str], output: Path) -> tuple[str, ...]:
    """Return the words with another `--output`."""
    changed = list(words)
    changed[changed.index("--output") + 1] = str(output)
    return tuple(changed)


def without_fold(words: Sequence[str]) -> list[str]:
    """Return the words without `--fold K`."""
    index = list(words).index("--fold")
    return [*words[:index], *words[index + 2 :]]


def without_folds(name: str) -> bool:
    """Return whether a file of a run, by its path in the run's folder, is none of a fold's and no lock."""
    return not name.startswith("fold") or name == "folds.csv"


def pack(folder: Path, takes: Any) -> bytes:
    """Return the files of a folder as a tar file; `takes` says by the path in the folder which."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_file() and takes(name) and path.name != ".lock":
                archive.add(path, name)
    return buffer.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write the files of a tar file into a folder, last run.json, which says that a fold is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name == "run.json")
        archive.extractall(folder, members, filter="data")
