"""The plans of a campaign in its file, plan.json: written down before they are followed. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldsmith.campaign.steps import Plan, first_name
from foldsmith.process.files import load_json, save_json


@dataclass
class WrittenPlans:
    """The plan of a campaign, and those for time that was left over, in the order in which they are followed.

    `inputs` is what they rest on, `budget` their seconds. With `is_closed` no other is made: what was left
    over at the end was too little.
    """

    path: Path
    inputs: Mapping[str, Any]
    budget: float
    plans: list[Plan]
    is_closed: bool = False

    @classmethod
    def load(cls, path: Path) -> "WrittenPlans":
        held = load_json(path)
        plans = [Plan.of_json(entry) for entry in (held["plan"], *held.get("later", ()))]
        # a file without later plans is of a campaign that made none
        return cls(path, held["inputs"], held["budget"], plans, held.get("closed", "later" not in held))

    def save(self) -> None:
        first, *later = (plan.as_json() for plan in self.plans)
        content = {"inputs": self.inputs, "budget": self.budget, "plan": first}
        save_json(self.path, {**content, "later": later, "closed": self.is_closed})

    def add(self, plan: Plan) -> None:
        """Write down a further plan."""
        self.plans.append(plan)
        self.save()

    def close(self) -> None:
        """Write down that no further plan is made."""
        self.is_closed = True
        self.save()

    @property
    def num_slots(self) -> int:
        """Return how many slots there are; one that is planned again is the same."""
        return len({first_name(slot.name) for plan in self.plans for slot in plan.slots})
