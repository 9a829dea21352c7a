"""Faults of the machine end a stage with one sentence, and the same command resumes afterwards."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from conftest import MakeCompetition, naming
from safetensors.torch import save_file

import examine
import infer
import prepare
import report
import split
import submit
import train
import validate
from foldsmith.data import cache
from foldsmith.data.loader import AugmentedBatches, EpochBatches, build_loader
from foldsmith.process.exit import run_main
from foldsmith.process.faults import MachineError, machine_fault
from foldsmith.process.files import atomic_write, save_csv

SRC = Path(__file__).parents[1] / "src"
STAGES = (prepare, split, train, validate, infer, submit, examine, report)
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "1", "--batch-size", "8", "--folds", "2"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu", "--name", "run"]
ADVICE = "Once that is fixed, run the same command again to resume.\n"


def files_of(run: Path) -> dict[str, bytes]:
    """Return the files of a finished run, by name, without those that hold times."""
    timed = re.compile(
        r"run\.json|heldout\.json|log\.csv|report\.html|stamps/(validate|infer|submit|examine|report)\.json|\.lock"
    )
    paths = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not timed.search(name)}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit files to `size` bytes within the block, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- messages


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b.csv"), "a/b.csv: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MachineError("the disk is small"), "the disk is small"),
        (MemoryError(), "memory ran out"),
        (np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("u1")), "memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "memory ran out"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), "memory ran out"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "was killed"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "was killed"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "/dev/shm, is full"),
        (RuntimeError("Caught\nunable to allocate shared memory(shm) for file </t>"), "/dev/shm, is full"),
        (RuntimeError("[/b/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:7"), "says why"),
        (RuntimeError("CUDA error: unspecified launch failure\nSearch it\nCompile"), "(CUDA error: un"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `c`"), "GPU failed"),
        (RuntimeError("CUDA error: device-side assert triggered"), None),  # a bug of foldsmith's
        (OSError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("out of memory"), None),
        (OSError("no number"), None),
        (AssertionError(), None),
    ],
)  # fmt: skip
def test_faults_of_the_machine_are_distinguished_from_bugs(error: Exception, key: str | None) -> None:
    fault = machine_fault(error)
    assert fault is None if key is None else key in fault
    assert "\n" not in (fault or "")


def test_after_a_gpu_fault_nothing_is_freed_that_could_abort() -> None:
    code = (
        "import atexit, os, sys; sys.path.insert(0, 'src'); atexit.register(os.abort)\n"
        "from foldsmith.process.exit import run_main\n"
        "class Tensor:\n"
        "    __del__ = lambda self: os.abort()\n"
        "def main():\n"
        "    tensor = Tensor()\n"
        "    raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "run_main(main)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "GPU" in done.stderr and done.stderr.count("\n") == 1


def test_a_fault_of_the_machine_ends_with_status_1_and_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "run/oof.npz")

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: run/oof.npz: No space left on device. {ADVICE}"


def test_after_a_fault_the_suggested_command_resumes_without_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "run/oof.npz")

    monkeypatch.setattr(sys, "argv", ["train.py", "input/birds", "--again"])
    with pytest.raises(SystemExit):
        run_main(main)
    advice = capsys.readouterr().err.partition("Once that is fixed, ")[2]
    assert "same command without --again" in advice and advice.count("\n") == 1


# --- full disks


@pytest.mark.parametrize("library", ["torch", "safetensors", "numpy", "pandas"])
def test_a_full_disk_is_reported_whatever_error_a_library_raises(tmp_path: Path, library: str) -> None:
    large = np.zeros(100_000)
    with pytest.raises(OSError) as caught, largest_file(5000), atomic_write(tmp_path / "file") as temporary:
        if library == "torch":
            torch.save({"large": torch.from_numpy(large)}, temporary)
        elif library == "safetensors":
            save_file({"large": torch.from_numpy(large)}, temporary)
        elif library == "numpy":
            with temporary.open("wb") as file:
                np.save(file, large)
        else:
            temporary.write_text("x" * 100_000)
    assert caught.value.errno == errno.EFBIG
    assert not any(tmp_path.iterdir())


def test_a_bug_is_not_reported_as_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), atomic_write(tmp_path / "file"):
        raise ValueError("ours")
    assert not any(tmp_path.iterdir())


def test_a_run_on_a_repeatedly_full_disk_ends_with_the_same_bytes(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_competition(per_class=8)
    words = [str(folder), *SMALL, "--output"]
    for stage in STAGES:
        assert stage.main([*words, str(tmp_path / "whole")]) == 0
    failed = []
    size, held = 64, {}
    for stage in STAGES:
        while True:
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended, largest_file(size):
                run_main(lambda stage=stage: stage.main([*words, str(tmp_path / "full")]))
            if ended.value.code == 0:
                break
            error = capsys.readouterr().err
            assert ended.value.code == 1 and error.endswith(ADVICE) and error.count("\n") == 1, error
            assert not list(tmp_path.rglob("*.part"))
            now = files_of(tmp_path / "full/tiny/run")
            assert {name: now[name] for name in held} == held  # complete files stay as they are
            failed.append(stage.__name__)
            held, size = now, size * 4
    print(f"the disk was full {len(failed)} times: {', '.join(failed)}")
    assert set(failed) >= {"prepare", "train"} and len(failed) >= 6
    assert files_of(tmp_path / "full/tiny/run") == files_of(tmp_path / "whole/tiny/run")


def test_too_little_disk_space_is_reported_before_anything_is_decoded(
    make_competition: MakeCompetition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage._replace(free=24 * 16 * 16 * 3 - 1))
    monkeypatch.setattr(cache, "decode_image", lambda path: pytest.fail("decoded"))
    with pytest.raises(MachineError, match=naming("0 MB", "--image-size", "--output", "cache=off")):
        prepare.main([str(make_competition()), *SMALL, "--output", str(tmp_path)])
    assert [path.name for path in (tmp_path / "tiny/cache").glob("[!.]*")] == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root mounts a small disk")
def test_a_disk_of_few_kilobytes_ends_in_one_sentence_without_a_bus_error(
    make_competition: MakeCompetition, tmp_path: Path
) -> None:
    folder = make_competition(num_classes=2, per_class=30)
    images = [f"train/{index}.png" for index in range(60)]
    mount = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$1" "$4" "$5"'
    # the check of free space is replaced: another program may fill the disk after it
    program = (
        "import json, sys; from pathlib import Path; from foldsmith.data import cache\n"
        "from foldsmith.process.exit import run_main\n"
        "cache._refuse_small_disk = lambda *words: None\n"
        "disk, folder, images = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])\n"
        "run_main(lambda: cache.build_cache(disk / 'cache', folder, images, 32))"
    )
    words = [str(tmp_path), sys.executable, program, str(folder), json.dumps(images)]
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, "sh", *words],
        env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True,
    )  # fmt: skip
    if "mount:" in ended.stderr or "unshare:" in ended.stderr:
        pytest.skip("this container may not mount")
    assert ended.returncode == 1 and "No space left on device" in ended.stderr, ended.stderr
    assert ended.stderr.endswith(ADVICE) and ended.stderr.count("\n") == 1


# --- outputs that cannot be written


def test_an_output_that_is_no_folder_ends_in_one_sentence(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: prepare.main([str(make_competition()), *SMALL, "--output", str(tmp_path / "file")]))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and str(tmp_path / "file") in error and error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_read_only_output_ends_in_one_sentence(make_competition: MakeCompetition, tmp_path: Path) -> None:
    folder, output = make_competition(), tmp_path / "output"
    assert prepare.main([str(folder), *SMALL, "--output", str(tmp_path / "here")]) == 0
    shutil.copytree(tmp_path / "here", output)  # a run that this process has not locked
    before = files_of(output / "tiny/run")
    (output / "tiny/run").chmod(0o555)
    drop = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, str(SRC / "split.py"), str(folder), *SMALL, "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert re.search(r"error: .*tiny/run/.*: Permission denied", ended.stderr)
    (output / "tiny/run").chmod(0o755)
    assert files_of(output / "tiny/run") == before
    assert split.main([str(folder), *SMALL, "--output", str(output)]) == 0


# --- workers


def batches_of(workers: int) -> list[np.ndarray]:
    pixels = np.arange(40 * 8 * 8 * 3, dtype=np.uint8).reshape(40, 8, 8, 3)
    rows = np.arange(40)
    dataset = AugmentedBatches(pixels, rows, rows, augmentation=None)
    return [images.numpy() for images, _ in build_loader(dataset, EpochBatches(40, 8, 0, 0), workers, False)]


def test_without_shared_memory_workers_are_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldsmith.data.loader.SHARED_MEMORY", str(tmp_path / "shm"))
    monkeypatch.setattr("foldsmith.data.loader.augment_batch", lambda augmentation, images, *drawn: images)
    with pytest.raises(MachineError, match=naming("shm", "--workers 0")):
        batches_of(1)
    assert len(batches_of(0)) == 5


def test_a_batch_that_cannot_be_shared_is_an_error_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </t>: No space left on device (28)"
        )

    monkeypatch.setattr("foldsmith.data.loader.augment_batch", lambda augmentation, images, *drawn: images)
    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(RuntimeError) as caught:
        batches_of(1)
    assert "/dev/shm, is full" in machine_fault(caught.value)


def test_a_worker_killed_by_the_system_ends_in_one_sentence_and_the_run_resumes(
    make_competition: MakeCompetition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline, ours = tmp_path / "flip.json", os.getpid()  # only worker processes run albumentations
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip()]), pipeline)
    words = [str(make_competition()), *SMALL, "--output", str(tmp_path), "--set", f"augment={pipeline}"]
    for stage in (prepare, split):
        assert stage.main(words) == 0
    before = files_of(tmp_path / "tiny/run")

    def killed(*words: object) -> None:
        assert os.getpid() != ours
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("foldsmith.data.loader.augment_batch", killed)
        run_main(lambda: train.main([*words, "--workers", "1"]))
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.count("\n") == 1 and error.endswith(ADVICE)
    assert "a process that prepares batches was killed" in error and "--workers" in error
    after = files_of(tmp_path / "tiny/run")
    del after["threads.json"]  # recorded before the first step
    assert after == before
    assert train.main([*words, "--workers", "1"]) == 0


def test_a_table_with_a_carriage_return_in_a_text_is_read_back(tmp_path: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"path": ["one\rtwo", "b"], "label": [1, 2], "share": [0.5, float("nan")]})
    save_csv(tmp_path / "file.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "file.csv", dtype={"path": str}), table)


def test_a_reader_that_has_left_is_no_fault() -> None:
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from foldsmith.process.exit import run_main\n"
        "def main():\n"
        "    while True:\n"
        "        print('a line', flush=True)\n"
        "run_main(main)"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
