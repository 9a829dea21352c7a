"""Tasks: kinds of targets, from the label file to the submission; one module per task."""

from foldsmith.errors import unknown_name
from foldsmith.tasks.binary import Binary
from foldsmith.tasks.multilabel import Multilabel
from foldsmith.tasks.ordinal import Ordinal
from foldsmith.tasks.regression import Regression
from foldsmith.tasks.single_label import SingleLabel
from foldsmith.tasks.task import Encoded, Scaling, Task

__all__ = [
    "TASKS",
    "Binary",
    "Encoded",
    "Multilabel",
    "Ordinal",
    "Regression",
    "Scaling",
    "SingleLabel",
    "Task",
    "build_task",
]

# the name in identity.json and cv.json -> the class
TASKS: dict[str, type[Task]] = {
    task.name: task for task in (SingleLabel, Binary, Multilabel, Ordinal, Regression)
}


def build_task(name: str, num_outputs: int, loss: str = "ce", scaling: Scaling = ()) -> Task:
    """Return the task of this name for a network with `num_outputs` outputs, trained with `loss`.

    `scaling` is the offset and scale of each output of a regression. Raise InputError for an unknown name.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name](num_outputs, loss, scaling)
