"""The five studies: their recipes, their competition, and the figures that they reported."""

from dataclasses import dataclass
from pathlib import Path

from foldsmith.errors import unknown_name


@dataclass(frozen=True)
class Study:
    """A study. `split` are the options for its folds or hold-out.

    `reported` has the study's own figure for each recipe, measured on its test set unless stated otherwise.
    It is empty if the study reported none, and for recipes of ours.
    """

    name: str
    title: str
    folder: Path
    split: tuple[str, ...]
    reported: dict[str, str]


STUDIES = {
    study.name: study
    for study in (
        Study(
            "resnet",
            "Study 1: the 80-class bottleneck ResNet",
            Path("input/tiny80"),
            ("--holdout", "0.2"),
            {"resnet": "85 % of augmented training images; nothing held out", "resnet64": ""},
        ),
        Study(
            "autoencoder-padded",
            "Study 2: a semi-supervised autoencoder with a padded decoder",
            Path("input/flowers102"),
            ("--folds", "5"),
            {
                "autoencoder-padded-1": "17.09 %",
                "autoencoder-padded-2": "",
                "autoencoder-padded-3": "15.95 %",
                "autoencoder-padded-4": "14.47 %",
                "autoencoder-padded-5": "19.45 %",
                "autoencoder-padded-plus": "",
            },
        ),
        Study(
            "autoencoder-lenet",
            "Study 3: a convolutional autoencoder, fine-tuned",
            Path("input/flowers102"),
            ("--folds", "5"),
            {
                "autoencoder-lenet": "about 15 %",
                "autoencoder-lenet-bn": "better than 15 %",
                "autoencoder-lenet-bn-dropout": "better than with bn",
                "autoencoder-lenet-upsampled": "about 26 %",
                "autoencoder-lenet-plus": "",
            },
        ),
        Study(
            "crnn",
            "Study 4: a CRNN",
            Path("input/fashion-mnist"),
            ("--holdout", "0.3"),
            {
                "crnn": "89.6 %",
                "crnn-kernels333": "88.13 %",
                "crnn-kernels222": "not better than the first",
                "crnn-kernels555": "not better than the first",
                "crnn-pools2": "worse than the first",
                "crnn-hidden256": "90.06 %",
                "crnn-dropout10": "better than .25",
                "crnn-dropout10-once": "worse than three times",
                "crnn-hidden256-dropout10": "the study's conclusion, no figure",
                "crnn-plus": "",
            },
        ),
        Study(
            "cnn",
            "Study 5: CNN A to G and GAP",
            Path("input/cifar10"),
            ("--holdout", "0.16"),
            {
                "cnn-a": "18 % (validation)",
                "cnn-b": "28 % (validation)",
                "cnn-c": "10 % (validation)",
                "cnn-d": "59 % (validation)",
                "cnn-e": ".01 as reported (validation); did not learn",
                "cnn-f": "75 % (training 97.8 %)",
                "cnn-g": "83 % (training 90 %)",
                "cnn-gap": "83 % (training 88 %)",
                "cnn-gap-240": "84 % (validation 85 %, training 93 %)",
                "cnn-g-plus": "",
                "cnn-gap-plus": "",
            },
        ),
    )
}


def find_study(name: str) -> Study:
    """Return the study of this name. Raise InputError, with the nearest name, if there is none."""
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return STUDIES[name]
