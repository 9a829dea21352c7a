"""What a step of a campaign costs: the facts of a contest, the networks with their speeds, and arithmetic.

Imports no torch.
"""

from dataclasses import dataclass

# all on one busy core
START_SECONDS = 15.0  # of a run: its process, tables, report and submission
PREPARE_SECONDS = 0.0015  # an image, once for all runs: its check, and decoding
HEAD_SECONDS = 0.04  # a training image: the heads of a probe for all folds
EXAMINED = 1  # further view of held-out images, for the report
PROBE, FINETUNE, SCRATCH, VARIATION = "probe", "finetune", "scratch", "variation"


@dataclass(frozen=True)
class Contest:
    """The facts of a contest that a plan depends on.

    `side` is that of a square image, in pixels; `held_out` the share of the images that a fold holds out.
    `can_pseudo_label` says whether the task has pseudo-labels.
    """

    num_images: int
    num_test: int
    num_folds: int
    side: int
    held_out: float = 0.2
    can_pseudo_label: bool = True

    @property
    def preparing(self) -> float:
        """Return the seconds in which the first run checks and decodes all images."""
        return PREPARE_SECONDS * (self.num_images + self.num_test)

    @property
    def trained_on(self) -> float:
        """Return the number of images that a fold's network is trained on."""
        return self.num_images * (1 - self.held_out)


@dataclass(frozen=True)
class Candidate:
    """A network, the recipe and settings that use it, and its measured speeds in images a second.

    `network` is the same for its probes and fine-tunings. `epochs` are those that the recipe aims at, 0 for a
    probe; `least` those that are worth their time. Held-out images are predicted after every `validate_every`
    epochs; `loading` is the time of an image's augmentation in training, in seconds. `usual`: at the side at
    which such networks were pretrained. `views` are those that predictions are averaged over.
    """

    name: str
    kind: str
    network: str
    recipe: str
    settings: tuple[str, ...]
    size: int
    epochs: int
    least: int
    forward: float
    training: float
    validate_every: int = 1
    loading: float = 0.0
    usual: bool = False
    views: tuple[str, ...] = ("identity", "hflip")

    def words(self, epochs: int) -> tuple[str, ...]:
        """Return the words of the recipe for ./run.sh."""
        settings = [word for setting in self.settings for word in ("--set", setting)]
        length = ["--epochs", str(epochs)] if epochs else []
        return ("--recipe", self.recipe, *settings, *length)

    def run_name(self, epochs: int) -> str:
        """Return the name of a run, by what it is trained: another campaign takes such a run over."""
        return f"{self.recipe}-{self.name}" + (f"-{epochs}-epochs" if epochs else "")


def probe_seconds(contest: Contest, candidate: Candidate) -> float:
    """Return the seconds of a probe: features of all images in all views, once for all folds, and heads."""
    images = (contest.num_images + contest.num_test) * len(candidate.views)
    return START_SECONDS + images / candidate.forward + HEAD_SECONDS * contest.num_images


def training_seconds(contest: Contest, candidate: Candidate, epochs: int, num_folds: int) -> float:
    """Return the seconds of training that many folds, with their predictions of held-out and test images."""
    held_out = contest.num_images - contest.trained_on
    trained = epochs * contest.trained_on * (1 / candidate.training + candidate.loading)
    views = len(candidate.views)
    times = epochs / candidate.validate_every + views + EXAMINED
    predicted = (times * held_out + views * contest.num_test) / candidate.forward
    heads = HEAD_SECONDS * contest.num_images if candidate.kind == FINETUNE else 0.0
    return START_SECONDS + heads + num_folds * (trained + predicted)


def predicting_seconds(contest: Contest, candidate: Candidate, num_views: int, num_folds: int) -> float:
    """Return the seconds of predictions by trained folds: of test images, and of held-out images twice."""
    held_out = contest.num_images - contest.trained_on  # the report has the predictions of each view
    images = num_views * num_folds * (2 * held_out + contest.num_test)
    return START_SECONDS + images / candidate.forward


def seconds_of(contest: Contest, candidate: Candidate, epochs: int, num_folds: int) -> float:
    """Return the seconds of a candidate; a probe serves all folds by one pass over the images."""
    if candidate.kind == PROBE:
        return probe_seconds(contest, candidate)
    return training_seconds(contest, candidate, epochs, num_folds)


def fitting_epochs(contest: Contest, candidate: Candidate, seconds: float, num_folds: int) -> int:
    """Return the epochs, at most those that the candidate aims at, that fit in the seconds; maybe 0."""
    epochs = candidate.epochs
    while epochs > 0 and training_seconds(contest, candidate, epochs, num_folds) > seconds:
        epochs -= 1
    return epochs
