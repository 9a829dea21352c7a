"""What the field `weights` names: a file, a folder or a model of a hub, and its network. Imports no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldsmith.errors import InputError, first_of
from foldsmith.process.files import load_json

TIMM = "timm:"  # before the names of timm's networks
HUB, FOLDER = "hf-hub:", "local-dir:"  # timm's words for a model of the Hugging Face hub, and for a folder
CONFIGURATION = "config.json"  # timm's description of the weights beside it
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # names of weights files beside it
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pth.tar")
NETWORK_FOLDER = re.compile(r"(seed|round)\d+")  # of a further network, below the folder of its fold
TORCH_HASH = re.compile(r"-[0-9a-f]{8}$")  # at the end of the names of torch's and timm's releases
# recipes whose network is that of the weights, if no other one is typed
MODEL_BY_WEIGHTS = ("probe", "finetune", "default")


def check_weights_file(weights: str) -> None:
    """Raise InputError if there is no such file or folder, or a hub's model is not ORG/NAME; empty: none."""
    if weights.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", weights.removeprefix(HUB)):
            raise InputError(f"weights={weights}: write {HUB}ORG/NAME, such as {HUB}timm/resnet18.a1_in1k.")
    elif weights.startswith(FOLDER) and not Path(weights.removeprefix(FOLDER)).is_dir():
        raise InputError(f"weights={weights}: folder not found.")
    elif weights and not local_path(weights).exists():
        raise InputError(
            f"weights={weights}: file not found. Write the path of a file that is named as timm's network "
            f"(NAME.safetensors or NAME.pth), or {HUB}ORG/NAME to fetch a model of the hub."
        )


def local_path(weights: str) -> Path:
    """Return the path of a file or folder that `weights` names."""
    return Path(weights.removeprefix(FOLDER))


def described_folder(weights: str) -> Path | None:
    """Return the folder of `weights`; of a file that of the configuration which describes it, else None.

    That is a file with a name of HUB_FILES and a configuration beside it.
    """
    path = local_path(weights)
    if path.is_dir():
        return path
    if path.name in HUB_FILES and path.with_name(CONFIGURATION).is_file():
        return path.parent
    return None


def read_configuration(folder: Path) -> dict[str, Any]:
    """Return timm's configuration of the weights in a folder; empty if there is none.

    Raise InputError if the file is damaged, or another library's.
    """
    path = folder / CONFIGURATION
    if not path.is_file():
        return {}
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again.") from error
    if not isinstance(configuration, dict) or not isinstance(configuration.get("architecture"), str):
        raise InputError(
            f"{path} names no `architecture` of timm, so it belongs to another library; name the weights "
            f"file and its network: --set weights=FILE --set model={TIMM}NAME."
        )
    return configuration


@dataclass(frozen=True)
class TrainedHere:
    """A network of timm that a run trained: the folder of its fold, its recipe, and its normalisation."""

    fold: Path
    recipe: Mapping[str, Any]
    normalisation: Mapping[str, tuple[float, ...]]


def trained_here(file: Path) -> TrainedHere | None:
    """Return the network of a run whose weights.safetensors this is; None for any other file.

    Networks of further seeds and earlier rounds are in folders below that of their fold.
    """
    stamp = file.absolute().with_name("run.json")
    if file.name != "weights.safetensors" or not stamp.is_file():
        return None
    fold = next(folder for folder in stamp.parents if not NETWORK_FOLDER.fullmatch(folder.name))
    entry = load_json(stamp)
    facts = entry.get("facts", entry)
    # a fold that is still being trained has no run.json, but its run has an identity
    named = [path for path in (fold / "run.json", fold.parent / "identity.json") if path.is_file()]
    recipe = load_json(named[0]).get("recipe", {}) if named else {}
    if not str(recipe.get("model")).startswith(TIMM) or "normalisation" not in facts:
        return None
    held = {key: tuple(facts["normalisation"][key]) for key in ("mean", "std")}
    return TrainedHere(fold, recipe, held)


def is_weights(path: Path) -> bool:
    """Return whether a file's name ends like that of a weights file."""
    return path.name.endswith(SUFFIXES)


def weights_files(folder: Path) -> list[Path]:
    """Return the weights files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if is_weights(path) and path.is_file())


def stem_of(file_name: str) -> str:
    """Return the name of a weights file without its suffix, and without the hash of a release of torch."""
    suffix = max((end for end in SUFFIXES if file_name.endswith(end)), key=len, default="")
    return TORCH_HASH.sub("", file_name.removesuffix(suffix))


def architecture_of(name: str) -> str:
    """Return the architecture of a network's name `architecture.tag`; the tag says how it was trained."""
    return name.partition(".")[0]


def fits(stem: str, name: str) -> bool:
    """Return whether a weights file's stem names the network, or one of the two leaves the tag out."""
    if architecture_of(stem) != architecture_of(name):
        return False
    return stem == name or "." not in stem or "." not in name


def network_of(weights: str) -> str:
    """Return timm's name of the network that `weights` names: by config.json, else by the file's name.

    A hub's model has the name of its network. Whether timm has it is not checked. Raise InputError for a
    folder with no file, or several.
    """
    if weights.startswith(HUB):
        return weights.removeprefix(HUB).partition("@")[0].rpartition("/")[2]
    folder, path = described_folder(weights), local_path(weights)
    if folder is None:
        trained = trained_here(path)
        return trained.recipe["model"].removeprefix(TIMM) if trained else stem_of(path.name)
    configuration = read_configuration(folder)
    if configuration:
        return configuration["architecture"]
    files = weights_files(folder)
    if len(files) != 1:
        raise InputError(
            f"weights={weights} holds {_named(files)} and no {CONFIGURATION}, so it names no network; write "
            f"--set weights=FILE, or the network: --set model={TIMM}NAME."
        )
    return stem_of(files[0].name)


def file_in(folder: Path, name: str) -> Path:
    """Return the weights file of the network `name` in a folder. Raise InputError if none or several fit.

    With a configuration, which must be of that network, it is the first of HUB_FILES.
    """
    configuration, files = read_configuration(folder), weights_files(folder)
    if configuration and architecture_of(configuration["architecture"]) != architecture_of(name):
        raise InputError(
            f"{folder / CONFIGURATION} is of {configuration['architecture']}, and the recipe's network is "
            f"{name}; --set model={TIMM}{configuration['architecture']}, or name other weights."
        )
    usual = [file for file in files if configuration and file.name in HUB_FILES]
    if usual:
        return min(usual, key=lambda file: HUB_FILES.index(file.name))
    exact = [file for file in files if stem_of(file.name) == name]
    fitting = exact or [file for file in files if fits(stem_of(file.name), name)]
    if len(fitting) != 1:
        how_many = "none is" if not fitting else f"{len(fitting)} are"
        raise InputError(
            f"{folder} holds {_named(files)}, of which {how_many} named as weights of {name}; write "
            "--set weights=FILE."
        )
    return fitting[0]


def _named(files: list[Path]) -> str:
    names = first_of((file.name for file in files), 8)
    return f"{len(files)} weights files ({names})" if files else "no weights file"


def in_words(weights: Mapping[str, Any]) -> str:
    """Return the line on the weights that `describe_weights` returned, as run.json holds it."""
    licence = f"licence {weights['licence']}" if weights["licence"] else "licence unknown"
    return (
        f"{weights['name']} from {weights['source']}, {weights['file']}, {weights['megabytes']:.1f} MB, "
        f"digest {weights['digest'][:12]}, {licence}"
    )
