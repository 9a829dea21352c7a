"""The comparison with other programs reads their output and counts their processor time."""

import sys

import peers
import pytest
from peers import Method, Point, Row, accuracy_in, watch

from foldsmith.training.loop import log_line

TIMM = "Test: [  {}/3]  Time: 0.103 (0.121)  Loss:   1.904 ( 1.851)  Acc@1:  50.000 ( 47.850)"
EPOCH = {
    "epoch": 3, "lr": 0.01, "train_loss": 1.2, "train_accuracy": 0.5, "val_loss": 1.1, "val_accuracy": 0.614,
    "seconds": 5.0, "images_per_second": 1600.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "accuracy"),
    [
        (log_line("fold 0", 12, EPOCH), 0.614),
        (log_line("fold 0", 12, EPOCH | {"val_loss": float("nan")}), None),
        ("validate: accuracy 0.7175 ± 0.0100 (standard error, by images), out-of-fold 0.7175", 0.7175),
        (TIMM.format(3), 0.4785),
        (TIMM.format(0), None),  # the running mean of the first batch
        ("Epoch 0, global step 3: 'val_accuracy' reached 0.12745 (best 0.12745), saving", 0.12745),
        ("held out 0.30392", 0.30392),
        ("Train: 0 [   0/125 (  0%)]  Loss:  2.33 (2.33)  Time: 0.9s", None),
    ],
)
def test_a_line_states_an_accuracy_or_none(line: str, accuracy: float | None) -> None:
    assert accuracy_in(line) == (accuracy if accuracy is None else pytest.approx(accuracy))


def test_a_method_has_its_name_weights_and_epochs() -> None:
    assert Method.of("timm+weights:9") == Method("timm", borrowed=True, epochs="9")
    assert Method.of("quick") == Method("quick", borrowed=False, epochs="")


def test_points_of_a_program_have_its_seconds_and_processor_seconds() -> None:
    program = (
        "sum(range(10**7)); print('held out 0.5', flush=True); print('held out 0.75'); raise SystemExit(3)"
    )
    points, ended, seconds = watch([sys.executable, "-c", program], seconds=300)
    assert [point.accuracy for point in points] == [0.5, 0.75]
    assert 0 < points[0].processor <= points[1].processor
    assert points[0].seconds <= points[1].seconds <= seconds
    assert not ended


def test_a_program_is_killed_when_its_time_is_over() -> None:
    points, ended, _ = watch([sys.executable, "-c", "while True: pass"], seconds=0.1)
    assert (points, ended) == ([], False)


def test_the_time_of_a_target_is_that_of_the_first_point_that_reaches_it() -> None:
    points = [Point(10, 9, 0.5), Point(20, 18, 0.7), Point(30, 27, 0.6)]
    row = Row("cifar10", 0, 5.0, 1, "quick", points, ended=True, seconds=31, command=[])
    assert row.cells([0.6, 0.8]) == ["quick", "0.6000", "30 (27)", "0.7000", "20 (18)", "–", ""]


def test_rows_are_read_as_they_were_written(tmp_path) -> None:
    row = Row("cifar10", 0, 5.0, 1, "quick", [Point(10, 9, 0.5)], ended=True, seconds=31, command=["x"])
    path = tmp_path / "rows.jsonl"
    peers.add_row(path, row)
    peers.add_row(path, row)
    assert peers.read_rows(path) == [row, row]
