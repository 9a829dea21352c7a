"""What a target is, from the label file to the submission: one module a task."""

from foldsmith.errors import unknown_name
from foldsmith.tasks.single_label import SingleLabel
from foldsmith.tasks.task import Encoded, Task

__all__ = ["TASKS", "Encoded", "Task", "build_task"]

# the name in identity.json and cv.json -> the class
TASKS: dict[str, type[Task]] = {task.name: task for task in (SingleLabel,)}


def build_task(name: str, num_outputs: int, loss: str = "ce") -> Task:
    """Return the task of that name for a network of `num_outputs` outputs, trained by `loss`.

    Raises InputError for an unknown name.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name](num_outputs, loss)
