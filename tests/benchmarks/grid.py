"""A grid on a Ray cluster of several nodes of this machine, against the same grid in turn.

python tests/benchmarks/grid.py input/demo80 --output output/grid --case shared killed away empty

It needs requirements-grid.txt. The cases: `two`, two nodes of one core that see the output folder; `shared`,
three; `killed`, the same with a worker killed by SIGKILL and a node removed on the way; `away`, two nodes
that do not see it (in a mount namespace of their own, which root may make); `empty`, 1,000 tasks of a second
and 10,000 empty ones. Bytes of weights, predictions and submissions are compared with those of the grid in
turn.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
sys.path.insert(0, str(SRC))

import grid  # noqa: E402
from foldsmith.grid.jobs import FOLD, Job, Needs  # noqa: E402

SILENT: dict = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
FILES = ("fold*/weights.safetensors", "oof.npz", "test.npz", "submission.csv")


def words_of(folder: str, output: Path, args: argparse.Namespace) -> list[str]:
    words = [folder, "--recipes", "quick", "small-images-fast", "--seeds", "2", "--folds", "3"]
    words += ["--limit", str(args.limit), "--epochs", str(args.epochs), "--device", "cpu"]
    return [*words, "--precision", "fp32", "--workers", "0", "--output", str(output)]


def compare(first: Path, second: Path) -> str:
    """Return how many files of the runs are the same in two output folders."""
    same = different = 0
    for pattern in FILES:
        for path in sorted(first.glob(f"*/*/{pattern}")):
            other = second / path.relative_to(first)
            if other.is_file() and other.read_bytes() == path.read_bytes():
                same += 1
            else:
                different += 1
                print("  differs:", path.relative_to(first))
    return f"{same} files of weights, predictions and submissions are the same, {different} differ"


def kill_worker_and_node(cluster: object, nodes: list, marks: list[str]) -> None:
    """Kill the process of a worker that trains a fold, then remove a node on which one runs."""
    import psutil

    def workers() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or [])
            if title.startswith("ray::") and " fold " in title:
                found.append(process)
        return found

    def wait_for_training(above: int) -> list[psutil.Process]:
        while True:
            found = [one for one in workers() if one.children()]
            if len(found) >= above:
                time.sleep(8)  # within an epoch
                return found
            time.sleep(0.5)

    victim = wait_for_training(1)[0]
    marks.append(f"killed {victim.pid} ({' '.join(victim.cmdline())})")
    victim.send_signal(signal.SIGKILL)
    wait_for_training(2)
    cluster.remove_node(nodes[-1], allow_graceful=False)
    marks.append("removed a node")


def on_cluster(
    folder: str, output: Path, args: argparse.Namespace, faults: bool, count: int = 3
) -> tuple[float, list[str]]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(count - 1)]
    marks: list[str] = []
    if faults:
        threading.Thread(target=kill_worker_and_node, args=(cluster, nodes, marks), daemon=True).start()
    begun = time.monotonic()
    grid.main([*words_of(folder, output, args), "--address", cluster.address])
    seconds = time.monotonic() - begun
    cluster.shutdown()
    return seconds, marks


def away(folder: str, output: Path, args: argparse.Namespace) -> float:
    """Run the grid on two nodes that do not see the output folder, and a head without cores."""
    from ray.cluster_utils import Cluster

    ray, env = str(Path(sys.executable).parent / "ray"), dict(os.environ)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    output.mkdir(parents=True, exist_ok=True)
    nodes = []
    for _ in range(2):
        start = f"{ray} start --address {cluster.address} --num-cpus 1 --num-gpus 0 --block"
        hidden = f"mount -t tmpfs none {output} && exec {start}"
        nodes.append(subprocess.Popen(["unshare", "--mount", "sh", "-c", hidden], env=env, **SILENT))
    time.sleep(20)  # until the nodes have joined
    begun = time.monotonic()
    try:
        grid.main([*words_of(folder, output, args), "--address", cluster.address])
    finally:
        for node in nodes:
            node.terminate()
        cluster.shutdown()
    return time.monotonic() - begun


def empty() -> None:
    """Print the overhead of a job, and what the driver takes, for tasks of a second and for empty ones."""
    from ray.cluster_utils import Cluster

    from foldsmith.grid import cluster as on_ray

    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 20, "num_gpus": 0})
        executor = on_ray.OnRay(cluster.address, Path(name), "empty")
        for count, seconds in ((1000, 1.0), (10_000, 0.0)):
            executor._task = executor._ray.remote(sleeping(seconds))
            begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for index in range(count):
                executor.submit(
                    Job(f"run{index}", FOLD, 0, "train", ("x", "--output", name), Needs(1, 0.0, 0))
                )
            ended = 0
            while ended < count:
                ended += len(executor.finished(5))
            took = time.monotonic() - begun
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            overhead = 1000 * (took - count * seconds / 20) / count
            print(f"{count:,} tasks of {seconds:g} s on 20 slots: {took:.1f} s, {overhead:.1f} ms a task")
            print(f"  the driver's peak memory grew by {(after - before) / 1024:.0f} MB")
        executor.stop()
        cluster.shutdown()


def sleeping(seconds: float) -> object:
    def task(job: Job, carried: object, post: object) -> tuple[object, bytes]:
        from foldsmith.grid.jobs import Outcome

        time.sleep(seconds)
        return Outcome(0, "", "", seconds), b""

    return task


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--case", nargs="+", default=["two", "shared", "killed", "away", "empty"])
    parser.add_argument("--limit", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    turn = args.output / "turn"
    if set(args.case) - {"empty"}:
        begun = time.monotonic()
        grid.main(words_of(args.folder, turn, args))
        print(f"in turn: {time.monotonic() - begun:.0f} s")
    for case in args.case:
        output = args.output / case
        if case == "empty":
            empty()
        elif case == "away":
            print(f"away: {away(args.folder, output, args):.0f} s; {compare(turn, output)}")
        else:
            count = 2 if case == "two" else 3
            seconds, marks = on_cluster(args.folder, output, args, case == "killed", count)
            print(f"{case}: {seconds:.0f} s; {compare(turn, output)}", *marks, sep="\n  ")


if __name__ == "__main__":
    main()
