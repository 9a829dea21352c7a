"""Folds on several devices at once, and one network trained by several processes."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCompetition, naming
from safetensors.numpy import load_file
from spreading import run_script, work
from torch import nn
from torch.nn import functional

import prepare
import split
import train
from foldsmith.errors import InputError
from foldsmith.process.devices import spread, wait_for
from foldsmith.process.faults import MachineError
from foldsmith.recipes import RECIPES
from foldsmith.run.command import read_command
from foldsmith.run.paths import RunPaths
from foldsmith.training.plan import make_plan
from foldsmith.training.processes import ALONE, Processes

pytestmark = pytest.mark.slow

SRC = Path(__file__).parents[1] / "src"
# without batch norm and dropout, so that one process and several compute the same
PLAIN = [
    "--recipe",
    "cnn-d",
    "--image-size",
    "16",
    "--batch-size",
    "12",
    "--folds",
    "3",
    "--precision",
    "fp32",
]
PLAIN += ["--set", "optimizer=sgd", "--set", "lr=0.05", "--set", "augment=photo", "--workers", "0"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(make_competition: MakeCompetition) -> Path:
    return make_competition(num_classes=3, per_class=15)


def words_of(folder: Path, output: Path, *words: str) -> list[str]:
    return [str(folder), *PLAIN, "--output", str(output), *words]


def make_run(folder: Path, output: Path, *words: str) -> list[str]:
    """Prepare and split a run; return its words for a training in another process.

    The run is prepared in another folder and moved, because this process keeps its lock until it ends, and
    the lock file stays there.
    """
    prepared = output.with_name(f"{output.name}-prepared")
    for stage in (prepare, split):
        assert stage.main(words_of(folder, prepared, *words)) == 0
    shutil.copytree(prepared, output, dirs_exist_ok=True)
    return words_of(folder, output, *words)


def command_of(words: list[str], processes: int = 1) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    return [sys.executable, *torchrun, str(SRC / "train.py"), *words]


@contextmanager
def trained_until(needle: str, words: list[str]) -> Iterator[subprocess.Popen]:
    """Start a training and wait until it prints a line with this text; it goes on running."""
    with subprocess.Popen(
        command_of(words), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as training:
        while needle not in training.stdout.readline():
            assert training.poll() is None
        yield training


def train_alone(words: list[str], output: Path) -> RunPaths:
    """Train all folds in this process, one after the other, with as many threads as the others have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert train.main(words) == 0
    finally:
        torch.set_num_threads(threads)
    return RunPaths(output / "tiny" / "cnn-d")


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a run of three epochs, trained by one process."""
    output = tmp_path_factory.mktemp("alone")
    return train_alone(make_run(folder, output, "--epochs", "3", "--device", "cpu"), output)


# two networks, two rounds; every test image is pseudo-labelled, so that rounding changes no selection
TWO_ROUNDS = ["--epochs", "2", "--set", "seeds=2", "--rounds", "2", "--set", "pseudo_share=1"]


@pytest.fixture(scope="module")
def rounds_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """Return a run of two networks a fold in two rounds, trained by one process."""
    output = tmp_path_factory.mktemp("rounds")
    return train_alone(make_run(folder, output, *TWO_ROUNDS, "--device", "cpu"), output)


def test_networks_and_rounds_of_folds_on_several_devices_are_those_of_one(
    folder: Path, rounds_alone: RunPaths, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = make_run(folder, tmp_path, *TWO_ROUNDS, "--device", "cpu,cpu")
    capfd.readouterr()
    assert train.main(words) == 0
    printed = capfd.readouterr()
    assert printed.err == "" and "0, 1, 2" in printed.out and "cpu, cpu" in printed.out
    run = RunPaths(tmp_path / "tiny" / "cnn-d")
    ours, theirs = (
        {
            path.relative_to(paths.root): path.read_bytes()
            for kind in ("*.safetensors", "*.npz", "pseudo_labels.csv")
            for path in paths.root.glob(f"fold*/**/{kind}")
        }
        for paths in (run, rounds_alone)
    )
    assert ours == theirs and len(ours) == 3 * (2 * (2 + 3) + 1)
    assert not any(run.checkpoint(fold).exists() for fold in range(3))
    assert train.main(words) == 0
    assert capfd.readouterr().out.count("up to date") == 3


def test_an_item_that_fails_stops_the_others_with_its_own_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # the other one waits until it is stopped
    assert spread(partial(work, str(tmp_path / "absent.csv")), [0, 1], ["cpu", "cpu"], 1) == 1
    error = capfd.readouterr().err
    assert error.count("error: ") == 1 and "absent.csv" in error and "Traceback" not in error


@contextmanager
def spread_out() -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """Start a process; return it and the ids of its two children, which wait for a signal."""
    command = [sys.executable, str(Path(__file__).with_name("spreading.py"))]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            begun = sorted(parent.stdout.readline() for _ in range(2))
            assert begun == ["item 0 on cpu\n", "item 1 on cpu\n"]
            started = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
            children = [pid for pid in started if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            yield parent, children
        finally:
            parent.kill()  # where the test failed before it ended; its children end with it


def test_a_killed_process_ends_the_command_in_one_sentence() -> None:
    with spread_out() as (parent, children):
        os.kill(int(children[0]), signal.SIGKILL)
        _, error = parent.communicate()
    assert parent.returncode == 1
    assert error.startswith("error: ") and "signal 9" in error and error.count("\n") == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_processes_end_when_the_one_that_holds_the_lock_ends() -> None:
    with spread_out() as (parent, _):
        parent.kill()
        parent.stdout.read()  # ends when the last process that could write has ended
        assert parent.wait() == -signal.SIGKILL


def test_interrupted_all_folds_save_and_resume(folder: Path, alone: RunPaths, tmp_path: Path) -> None:
    words = make_run(folder, tmp_path, "--epochs", "3", "--device", "cpu,cpu")
    with trained_until("epoch 1/3", words) as training:
        training.send_signal(signal.SIGTERM)
        _, error = training.communicate()
    assert training.returncode in (143, 0)  # it may have just finished
    if training.returncode:
        assert error == "stopped; run the same command again to resume.\n"
    run = train_alone([*words, "--device", "cpu"], tmp_path)
    for fold in range(3):
        assert run.weights(fold).read_bytes() == alone.weights(fold).read_bytes()
        assert run.heldout(fold).read_bytes() == alone.heldout(fold).read_bytes()


def test_two_processes_train_the_networks_and_rounds_of_one_to_rounding(
    folder: Path, rounds_alone: RunPaths, tmp_path: Path
) -> None:
    words = make_run(folder, tmp_path, *TWO_ROUNDS, "--device", "cpu")
    done = subprocess.run(command_of(words, processes=2), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # only rank 0 prints
    assert done.stdout.count("epoch 2/2") == 3 * 2 * 2
    assert done.stdout.count("round 2: 6 of 6 test images") == 3
    run = RunPaths(tmp_path / "tiny" / "cnn-d")
    for fold in range(3):
        assert json.loads(run.fold_run(fold).read_text())["processes"] == 2
        ours, theirs = run.of_fold(fold), rounds_alone.of_fold(fold)
        labels = [
            dict(pd.read_csv(paths.pseudo_labels)[["path", "label"]].to_numpy()) for paths in (ours, theirs)
        ]
        assert labels[0] == labels[1]
        for mine, other in ((ours, theirs), (ours.round(1), theirs.round(1))):
            for path, other_path in zip(mine.all_weights(2), other.all_weights(2), strict=True):
                assert_close_weights(path, other_path)
            with np.load(mine.heldout) as held_out, np.load(other.heldout) as other_held_out:
                assert held_out["path"].tolist() == other_held_out["path"].tolist()
                np.testing.assert_allclose(
                    held_out["probabilities"], other_held_out["probabilities"], atol=1e-4
                )
        logs = [pd.read_csv(paths.log(fold)) for paths in (run, rounds_alone)]
        np.testing.assert_allclose(logs[0]["train_loss"], logs[1]["train_loss"], rtol=1e-4)
        np.testing.assert_allclose(logs[0]["val_loss"], logs[1]["val_loss"], rtol=1e-3)
    first, second = (load_file(rounds_alone.weights(fold)) for fold in (0, 1))
    assert any(np.abs(first[name] - second[name]).max() > 0.01 for name in first)
    assert not list(run.root.rglob("checkpoint*"))


def test_fewer_than_two_training_images_a_process_are_refused(folder: Path, tmp_path: Path) -> None:
    command = read_command(make_run(folder, tmp_path, "--device", "cpu"), "")
    with pytest.raises(InputError, match=naming(30, 16, 32)):
        train.train(command, make_plan(command), 0, Processes(0, 16))


def assert_close_weights(path: Path, other: Path) -> None:
    ours, theirs = load_file(path), load_file(other)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)


# train.py, but saving every step instead of every 20 seconds
SAVES_EVERY_STEP = """
import runpy, sys
from foldsmith.training import resume

resume.CHECKPOINT_SECONDS = 0
sys.argv = [TRAIN, *sys.argv[1:]]
runpy.run_path(TRAIN, run_name="__main__")
""".replace("TRAIN", repr(str(SRC / "train.py")))


def test_two_processes_train_with_all_options_as_one_does_even_if_they_are_killed(
    folder: Path, tmp_path: Path
) -> None:
    fields = ["mixup=0.4", "cutmix=1", "sampling=balanced"]
    fields += ["alternating_flip=true", "sam=0.05", "clip_grad=1"]
    words = ["--epochs", "3", "--device", "cpu", *(word for field in fields for word in ("--set", field))]
    one = train_alone([*make_run(folder, tmp_path / "1", *words), "--fold", "0"], tmp_path / "1")
    words = [*make_run(folder, tmp_path / "2", *words), "--fold", "0"]
    killed = start_two(words, SAVES_EVERY_STEP)
    while "epoch 2/3" not in killed[0].stdout.readline():  # the first epoch is saved
        assert killed[0].poll() is None
    for process in killed:
        process.kill()
        process.communicate()
    together = start_two(words)
    printed = [process.communicate() for process in together]
    assert [process.returncode for process in together] == [0, 0], printed
    assert re.search(r"epoch \d of 3", printed[0][0]) and "fold 0  epoch 1/3" not in printed[0][0]
    two = RunPaths(tmp_path / "2" / "tiny" / "cnn-d")
    assert_close_weights(one.weights(0), two.weights(0))
    logs = [pd.read_csv(run.log(0)) for run in (one, two)]
    np.testing.assert_allclose(logs[0]["train_loss"], logs[1]["train_loss"], rtol=1e-4)
    np.testing.assert_allclose(logs[0]["train_accuracy"], logs[1]["train_accuracy"])


# what the processes of `start_two` would each import for seconds
PRELOADED = ["train", "torch._dynamo", "foldsmith.models", "foldsmith.inference.compute"]
PRELOADED += [f"foldsmith.training.{name}" for name in ("check", "objective", "processes", "rounds", "step")]


@pytest.fixture(scope="module", autouse=True)
def imported_once() -> None:
    """Start the process that imports PRELOADED, computes nothing, and forks those of `start_two`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SRC))  # it does not take over sys.path
        patch.setenv("OMP_NUM_THREADS", "1")
        get_context("forkserver").set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()


class Started:
    """A process that runs train.py or `program`; it has the methods of subprocess.Popen that tests use."""

    def __init__(self, words: list[str], program: str, environment: dict[str, str]) -> None:
        context = get_context("forkserver")
        readers, writers = zip(*(context.Pipe(duplex=False) for _ in range(2)), strict=True)
        self.process = context.Process(
            target=run_script, args=(str(SRC / "train.py"), program, words, environment, writers)
        )
        self.process.start()
        for writer in writers:
            writer.close()  # else its reader would never end
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno())) for reader in readers)
        self.kill = self.process.kill

    def poll(self) -> int | None:
        return self.process.exitcode

    def communicate(self) -> tuple[str, str]:
        """Return all that it prints until it ends, to its output and to its errors."""
        with self.stdout, self.stderr:
            printed = self.stdout.read(), self.stderr.read()
        self.process.join()
        return printed

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode


def start_two(words: list[str], program: str = "") -> list[Started]:
    """Start two processes with torchrun's environment; they run train.py or `program`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [Started(words, program, {**meeting, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]


# --- micro-batches of two processes, and out of memory on one of them

# two steps of one network on two processes, whose batches have 25 and 24 images
STEPS = """
import json, sys, torch
from dataclasses import replace
from torch import nn
from foldsmith.data.loader import EpochBatches
from foldsmith.inference.compute import build_compute
from foldsmith.recipes import RECIPES
from foldsmith.tasks import SingleLabel
from foldsmith.training.objective import Classification
from foldsmith.training.processes import meeting
from foldsmith.training.state import build_state
from foldsmith.training.step import build_step

class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 4))
        self.register_buffer("passes", torch.zeros(()))
        self.seen = []

    def forward(self, images):
        self.passes += 1
        self.seen.append(len(images))
        return self.layers(images)

draws = torch.Generator().manual_seed(1)
batches = [(torch.randn((n, 3, 8, 8), generator=draws), torch.randint(0, 4, (n,), generator=draws))
           for n in (25, 24)]

def two_steps(micro_batch, sam, processes, device):
    compute = build_compute(device, "fp32", (0.5,) * 3, (0.25,) * 3)
    recipe = replace(RECIPES["quick"], optimizer="sgd", momentum=0.9, weight_decay=0.0, ema_decay=0.0,
                     micro_batch=micro_batch, sam=sam)
    state = build_state(Toy(), recipe, compute)
    keys = EpochBatches(49, 25, 0, 0, processes.rank_and_count)
    objective = Classification(nn.CrossEntropyLoss(), SingleLabel(3))
    step = build_step(state, objective, compute, recipe, keys, processes)
    grads, losses = [], []
    for images, labels in batches:
        mine = torch.arange(len(labels)).tensor_split(2)[processes.rank]
        loss, _ = step(images[mine], labels[mine])
        losses.append(float(loss) * len(mine) / len(labels))
        grads.append([each.grad.flatten().tolist() for each in state.model.parameters()])
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
    return {"grads": grads, "losses": losses, "seen": state.model.seen, "passes": float(state.model.passes)}

with meeting("cpu") as (processes, device):
    results = [two_steps(*case, processes, device) for case in json.loads(sys.argv[1])]
print(json.dumps(results))  # after the meeting, which would wait for a process that waits for its reader
"""


def whole_batches(sam: float) -> tuple[list[list[np.ndarray]], list[float]]:
    """Return gradients and losses of the same two steps in one process, in plain torch."""
    draws = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 4))
    # the recipe's rate, which a step does not set
    optimizer = torch.optim.SGD(layers.parameters(), lr=RECIPES["quick"].lr, momentum=0.9, nesterov=False)
    grads, losses = [], []
    for count in (25, 24):
        images = torch.randn((count, 3, 8, 8), generator=draws)
        labels = torch.randint(0, 4, (count,), generator=draws)
        loss = functional.cross_entropy(layers(images), labels)
        found = torch.autograd.grad(loss, list(layers.parameters()))
        losses.append(float(loss.detach()))
        if sam:
            length = torch.cat([gradient.flatten() for gradient in found]).norm()
            with torch.no_grad():
                kept = [parameter.clone() for parameter in layers.parameters()]
                for parameter, gradient in zip(layers.parameters(), found, strict=True):
                    parameter += sam * gradient / length
            loss = functional.cross_entropy(layers(images), labels)
            found = torch.autograd.grad(loss, list(layers.parameters()))
            with torch.no_grad():
                for parameter, weight in zip(layers.parameters(), kept, strict=True):
                    parameter.copy_(weight)
        for parameter, gradient in zip(layers.parameters(), found, strict=True):
            parameter.grad = gradient
        grads.append([gradient.flatten().numpy() for gradient in found])
        optimizer.step()
    return grads, losses


# (micro_batch, sam) of two steps on two processes
STEP_CASES = [(micro_batch, sam) for micro_batch in (3, 0) for sam in (0.0, 0.1)]


@pytest.fixture(scope="module")
def two_steps() -> dict[tuple[int, float], list[dict[str, list]]]:
    """Return what both processes measured in each case; they are started once for all cases."""
    processes = start_two([json.dumps(STEP_CASES)], STEPS)
    both = [json.loads(process.communicate()[0]) for process in processes]
    return dict(zip(STEP_CASES, zip(*both, strict=True), strict=True))


@pytest.mark.parametrize(("micro_batch", "sam"), STEP_CASES)
def test_two_processes_compute_the_gradients_of_whole_batches_in_equally_many_micro_batches(
    micro_batch: int, sam: float, two_steps: dict[tuple[int, float], list[dict[str, list]]]
) -> None:
    of_13, of_12 = ([3, 3, 3, 2, 2], [3, 3, 2, 2, 2]) if micro_batch else ([13], [12])
    both = two_steps[micro_batch, sam]
    grads, losses = whole_batches(sam)
    for step in range(2):
        for ours, theirs in zip(both[0]["grads"][step], grads[step], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert both[0]["grads"] == both[1]["grads"]
    np.testing.assert_allclose(np.sum([result["losses"] for result in both], axis=0), losses, rtol=1e-5)
    passes = 2 if sam else 1
    assert [result["seen"] for result in both] == [
        passes * of_13 + passes * of_12,  # the first process has 13 and 12 images
        passes * of_12 + passes * of_12,
    ]
    # the second pass of sharpness-aware minimisation updates no buffer
    assert [result["passes"] for result in both] == [2 * len(of_13)] * 2


# train.py, with a network that runs out of memory on rank 1 above a few images
SHORT = """
import os, runpy, sys, torch
from foldsmith.models import plain_cnn

whole, most = plain_cnn.PlainCNN.forward, int(sys.argv[1])

def forward(network, images):
    if network.training and os.environ["RANK"] == "1" and len(images) > most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return whole(network, images)

plain_cnn.PlainCNN.forward = forward
sys.argv = [TRAIN, *sys.argv[2:]]
runpy.run_path(TRAIN, run_name="__main__")
""".replace("TRAIN", repr(str(SRC / "train.py")))


@pytest.mark.parametrize(("micro_batch", "most", "remedy"), [(0, 4, "micro_batch=3"), (1, 0, "--image-size")])
def test_a_process_without_memory_ends_all_with_status_1_and_names_the_remedy(
    micro_batch: int, most: int, remedy: str, folder: Path, tmp_path: Path
) -> None:
    words = make_run(folder, tmp_path, "--device", "cpu", "--set", f"micro_batch={micro_batch}")
    processes = start_two([str(most), *words, "--fold", "0"], SHORT)  # each has 5 images of a batch
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert errors[1].startswith("error: process 1: CUDA out of memory") and remedy in errors[1]
    assert [error.count("\n") for error in errors] == [1, 1]
    assert not RunPaths(tmp_path / "tiny" / "cnn-d").weights(0).exists()


def test_with_the_remedy_two_processes_train_what_one_does_to_rounding(
    folder: Path, alone: RunPaths, tmp_path: Path
) -> None:
    words = make_run(folder, tmp_path, "--epochs", "3", "--device", "cpu", "--set", "micro_batch=3")
    processes = start_two(["3", *words, "--fold", "0"], SHORT)
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    run = RunPaths(tmp_path / "tiny" / "cnn-d")
    assert json.loads(run.fold_run(0).read_text())["micro_batch"] == 3
    ours = load_file(run.weights(0))
    for name, theirs in load_file(alone.weights(0)).items():
        np.testing.assert_allclose(ours[name], theirs, rtol=1e-3, atol=1e-4, err_msg=name)


def test_wrong_arguments_end_every_process_with_the_message_of_rank_0(folder: Path, tmp_path: Path) -> None:
    together = start_two(words_of(folder, tmp_path, "--device", "cpu"))  # never prepared
    errors = [process.communicate()[1] for process in together]
    assert [process.returncode for process in together] == [2, 2], errors
    assert errors[0].startswith("error: ") and errors[0].count("\n") == 1 and "split.py" in errors[0]
    assert errors[1] == ""


def test_a_process_that_ends_between_two_checks_does_not_hang_the_wait() -> None:
    class Ending:
        """A process that runs at the first check and has ended at the second."""

        def __init__(self) -> None:
            self.sentinel, writer = os.pipe()
            os.close(writer)  # ended: its sentinel can be read
            self.codes = iter([None])

        @property
        def exitcode(self) -> int | None:
            return next(self.codes, 0)

    assert wait_for([Ending(), Ending()]) == 0


def test_a_process_that_crashed_ends_the_wait_with_its_signal() -> None:
    class Crashed:
        exitcode = -signal.SIGABRT

    with pytest.raises(MachineError, match=naming(int(signal.SIGABRT))):
        wait_for([Crashed()])


def test_a_single_process_is_rank_0_and_owns_everything() -> None:
    rows = np.arange(7)
    assert ALONE.is_first and ALONE.share("x") == "x"
    assert np.array_equal(ALONE.join_rows(ALONE.own_rows(rows)), rows)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_shards_of_all_processes_are_all_rows(count: int) -> None:
    rows = np.arange(20)
    shares = [Processes(rank, count).own_rows(rows) for rank in range(count)]
    assert np.concatenate(shares).tolist() == rows.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
