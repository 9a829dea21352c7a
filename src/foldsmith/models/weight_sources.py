"""The file of a network's initial weights: named, cached, mounted or downloaded, and what is known of it."""

import dataclasses
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foldsmith.errors import InputError, first_of
from foldsmith.process.files import digest_of_file
from foldsmith.process.terminal import say
from foldsmith.recipes import Recipe, check_weights_file
from foldsmith.recipes.weight_names import (
    CONFIGURATION,
    HUB,
    HUB_FILES,
    TIMM,
    architecture_of,
    described_folder,
    file_in,
    fits,
    is_weights,
    local_path,
    read_configuration,
    stem_of,
    trained_here,
)

KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts data sets and models
MOUNT_DEPTH = 6  # folders below it: a model's files are in MODEL/FRAMEWORK/VARIATION/VERSION
MOUNT_ENTRIES = 1_000  # a folder with more files or folders holds images
HUB_SECONDS = 10.0  # a hub that does not answer within them counts as absent
# entries of timm's pretrained_cfg that a config.json describes its weights by
DESCRIBING = (
    "tag", "mean", "std", "input_size", "interpolation", "crop_pct", "crop_mode", "num_classes",
    "label_offset", "first_conv", "classifier", "license",
)  # fmt: skip
# arguments of a config.json that do not change the network we build: the competition sets sizes, channels and
# classes, and the recipe rates
HARMLESS_ARGUMENTS = {"num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "pretrained"}


@dataclass(frozen=True)
class WeightsSource:
    """A weights file, and where it was found.

    `kind` is a phrase such as "the Hugging Face cache", `typed` the recipe's `weights`. `model` is timm's
    name of the network whose pretrained_cfg describes the file, with the entries of `configuration` in place
    of timm's; `known` says that the file is published with its licence.
    """

    kind: str
    file: Path
    model: str
    typed: str = ""
    known: bool = True
    configuration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_words(self) -> str:
        return f"weights={self.typed}" if self.typed else f"{self.file} ({self.kind})"

    def pretrained_cfg(self) -> Any:
        """Return timm's PretrainedCfg of the file."""
        import timm
        from timm.models import PretrainedCfg

        return dataclasses.replace(
            timm.get_pretrained_cfg(self.model) or PretrainedCfg(), **self.configuration
        )


def find_weights(name: str, weights: str = "") -> WeightsSource:
    """Return the file of the initial weights of timm's network `name`.

    `weights` is the recipe's; empty: timm's own, from the caches of Hugging Face and torch, Kaggle's mounts,
    or else downloaded. Raise InputError, with the ways that are left, if it cannot be had.
    """
    check_weights_file(weights)
    if weights.startswith(HUB):
        return _of_hub(name, weights)
    if weights:
        return _of_path(name, weights)
    return _of_timm(name)


def describe_weights(recipe: Recipe) -> dict[str, Any]:
    """Return the facts of a recipe's initial weights for run.json; empty for random ones.

    `input_size`, `interpolation` and `crop_pct` are those of the weights' own training; our images are whole
    and resized to a square. Raise InputError as find_weights.
    """
    if not (recipe.pretrained or recipe.weights):
        return {}
    source = find_weights(recipe.model.removeprefix(TIMM), recipe.weights)
    trained = source.pretrained_cfg()
    return {
        "source": source.kind,
        "name": source.model,
        "file": str(source.file.absolute()),
        "megabytes": source.file.stat().st_size / 1e6,
        "digest": digest_of_file(source.file),
        "licence": (trained.license or "") if source.known else "",
        "mean": list(trained.mean),
        "std": list(trained.std),
        "input_size": list(trained.input_size),
        "interpolation": trained.interpolation,
        "crop_pct": trained.crop_pct,
    }


def _of_path(name: str, weights: str) -> WeightsSource:
    """Return the file of a typed file or folder."""
    import timm

    folder = described_folder(weights)
    if folder is None:
        file = local_path(weights)
    else:
        file = file_in(folder, name)
        configuration = read_configuration(folder)
        if configuration:
            held = _entries_of(configuration, folder / CONFIGURATION)
            return WeightsSource("a folder", file, name, weights, "license" in held, held)
    stem = stem_of(file.name)
    if trained := trained_here(file):
        return WeightsSource("a fold of an earlier run", file, name, weights, False, trained.normalisation)
    published = architecture_of(stem) == architecture_of(name) and timm.is_model(stem)
    if published and not fits(stem, name):
        _refuse_other_normalisation(name, stem, weights)
    # of two names of one network the one with a tag says more
    model = stem if published and fits(stem, name) and "." in stem else name
    return WeightsSource("a file" if folder is None else "a folder", file, model, weights, published)


def _refuse_other_normalisation(name: str, stem: str, weights: str) -> None:
    """Raise InputError if the weights' name and the network's have two tags with two normalisations."""
    import timm

    typed, named = timm.get_pretrained_cfg(name), timm.get_pretrained_cfg(stem)
    if (typed.mean, typed.std) != (named.mean, named.std):
        raise InputError(
            f"weights={weights} is named {stem}, whose images are normalised by mean {named.mean}, and the "
            f"recipe's {name} by mean {typed.mean}; say which: --set model={TIMM}{stem}, or rename the file."
        )


def _of_hub(name: str, weights: str) -> WeightsSource:
    """Return the file of a model of the Hugging Face hub, from its cache or downloaded."""
    import timm

    repository, _, revision = weights.removeprefix(HUB).partition("@")
    known = timm.get_pretrained_cfg(name)
    described = _cached(repository, CONFIGURATION, revision)
    if described is None and (known is None or known.hf_hub_id != repository):
        described = _download(name, repository, (CONFIGURATION,), revision)
    file, kind = _cached_weights(repository, revision), "the Hugging Face cache"
    if file is None:
        file, kind = _download(name, repository, HUB_FILES, revision), "the Hugging Face hub"
    held: dict[str, Any] = {}
    if described is not None:
        configuration = read_configuration(described.parent)
        if architecture_of(configuration["architecture"]) != architecture_of(name):
            raise InputError(
                f"weights={weights} are of {configuration['architecture']}, and the recipe's network is "
                f"{name}: --set model={TIMM}{configuration['architecture']}."
            )
        held = _entries_of(configuration, described)
    published = described is None or "license" in held
    return WeightsSource(f"{repository} in {kind}", file, name, weights, published, held)


def _entries_of(configuration: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the entries that describe weights, as timm's pretrained_cfg has them.

    Raise InputError if the network was built with arguments of its own, which a run could not repeat.
    """
    arguments = {
        key: value
        for key, value in configuration.get("model_args", {}).items()
        if key not in HARMLESS_ARGUMENTS
    }
    if arguments:
        raise InputError(
            f"{path} builds its network with model_args {arguments}, which a recipe cannot keep; choose "
            "weights of one of timm's networks as it is."
        )
    # older files hold the entries at the top
    entries = dict(configuration.get("pretrained_cfg", configuration))
    if "num_classes" in configuration:
        entries["num_classes"] = configuration["num_classes"]
    held = {key: entries[key] for key in DESCRIBING if entries.get(key) is not None}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}


def _of_timm(name: str) -> WeightsSource:
    """Return the file of timm's own weights of a network: cached, mounted, or downloaded."""
    import timm

    published = timm.get_pretrained_cfg(name)
    if published is None or not (published.hf_hub_id or published.url):
        raise InputError(
            f"timm publishes no weights of {name}: --set pretrained=false, or another network "
            "(timm.list_pretrained() lists those with weights)."
        )
    if published.hf_hub_id and (file := _cached_weights(published.hf_hub_id)):
        return WeightsSource("the Hugging Face cache", file, name)
    if published.url and _torch_cache(published.url).is_file():
        return WeightsSource("the torch cache", _torch_cache(published.url), name)
    if mounted := _mounted(name):
        return mounted
    if published.hf_hub_id:
        file = _download(name, published.hf_hub_id, HUB_FILES)
        return WeightsSource(f"{published.hf_hub_id} in the Hugging Face hub", file, name)
    return WeightsSource("a release of timm", _download_release(name, published.url), name)


def _cached_weights(repository: str, revision: str = "") -> Path | None:
    """Return the weights file of a hub's model in the Hugging Face cache; None if there is none."""
    found = (_cached(repository, file_name, revision) for file_name in HUB_FILES)
    return next((path for path in found if path is not None), None)


def _cached(repository: str, file_name: str, revision: str = "") -> Path | None:
    """Return a file of a hub's model in the Hugging Face cache; None if it is not there.

    A copied cache may lack the file that says which snapshot is the newest; then the only one is.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repository, file_name, revision=revision or None)
    if isinstance(found, str):
        return Path(found)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    if revision or (folder / "refs").is_dir():
        return None
    files = list(folder.glob(f"snapshots/*/{file_name}"))
    return files[0] if len(files) == 1 else None


def _torch_cache(url: str) -> Path:
    """Return the path of a release's file in the torch cache."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def _mounted(name: str) -> WeightsSource | None:
    """Return the weights of a network in Kaggle's mounts; None without any.

    A file counts by timm's name, or by a configuration beside it. Raise InputError if several files fit that
    are not the same.
    """
    found = list(_fitting(name))
    exact = [source for source in found if stem_of(source.file.name) == name]
    found = exact or found
    digests = {digest_of_file(source.file) for source in found} if len(found) > 1 else set()
    if len(digests) > 1:
        files = first_of((source.file for source in found), 4)
        raise InputError(
            f"{len(found)} mounted weights files fit {name} and differ ({files}); choose one: "
            "--set weights=FILE."
        )
    return found[0] if found else None


def _fitting(name: str) -> Iterator[WeightsSource]:
    """Yield the weights files below KAGGLE_INPUT that fit a network, in the order of their paths."""
    for root, folders, files in os.walk(KAGGLE_INPUT):
        folder = Path(root)
        folders.sort()
        images = max(len(files), len(folders)) > MOUNT_ENTRIES
        if images or len(folder.relative_to(KAGGLE_INPUT).parts) >= MOUNT_DEPTH:
            folders.clear()
        if images:
            continue
        described = _described(folder, name) if CONFIGURATION in files else None
        if described is not None:
            yield described
            continue
        for file in sorted(files):
            if is_weights(Path(file)) and fits(stem_of(file), name):
                yield WeightsSource("a Kaggle mount", folder / file, name)


def _described(folder: Path, name: str) -> WeightsSource | None:
    """Return the weights of a mounted folder whose configuration is of the network; None for another one."""
    try:
        configuration = read_configuration(folder)
    except InputError:  # another library's
        return None
    tag = configuration.get("pretrained_cfg", configuration).get("tag")
    described = f"{configuration['architecture']}.{tag}" if tag else configuration["architecture"]
    file = next((folder / file for file in HUB_FILES if (folder / file).is_file()), None)
    if file is None or not (fits(described, name) or fits(configuration["architecture"], name)):
        return None
    held = _entries_of(configuration, folder / CONFIGURATION)
    return WeightsSource("a Kaggle mount", file, name, known="license" in held, configuration=held)


def _download(name: str, repository: str, file_names: tuple[str, ...], revision: str = "") -> Path:
    """Return the first of the files that a hub's model has, downloaded into the Hugging Face cache.

    Raise InputError, with the ways that are left, if the hub does not answer or has none of them.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if constants.HF_HUB_OFFLINE:
        raise _without_network(name, repository, "HF_HUB_OFFLINE is set")
    if not hub_answers():
        raise _without_network(name, repository, f"{_hub()} does not answer")
    if not sys.stderr.isatty():
        disable_progress_bars()
    say(f"weights: fetching {file_names[0]} of {repository} from {_hub()}")
    at = {"revision": revision or None, "endpoint": _hub()}
    for file_name in file_names:
        try:
            # a hub that does not answer fails here; the download would retry for minutes
            get_hf_file_metadata(hf_hub_url(repository, file_name, **at), timeout=HUB_SECONDS)
            return Path(hf_hub_download(repository, file_name, etag_timeout=HUB_SECONDS, **at))
        except RemoteEntryNotFoundError:
            continue
        # the hub and its transport each have errors of their own
        except Exception as error:
            raise _without_network(name, repository, _reason(error)) from error
    raise _without_network(name, repository, f"{_hub()} has no {' or '.join(file_names)} of it")


def _download_release(name: str, url: str) -> Path:
    """Return a release's file, downloaded into the torch cache. Raise InputError if it cannot be had."""
    import torch

    path = _torch_cache(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    say(f"weights: fetching {url}")
    waits = socket.getdefaulttimeout()
    socket.setdefaulttimeout(HUB_SECONDS)  # torch's download has no time-out of its own
    try:
        torch.hub.download_url_to_file(url, str(path), progress=sys.stderr.isatty())
        return path
    except OSError as error:
        raise _without_network(name, url, _reason(error)) from error
    finally:
        socket.setdefaulttimeout(waits)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120].rstrip(' .')}"


def _without_network(name: str, origin: str, why: str) -> InputError:
    """Return the error for weights that are neither here nor to be had, with all ways to name some."""
    return InputError(
        f"the weights of {name} ({origin}) are in no cache of Hugging Face or torch and in no Kaggle mount, "
        f"and could not be fetched ({why}); choose: a file or folder (--set weights=FILE or DIR), the model "
        f"attached below {KAGGLE_INPUT}, a connection, or none (--set pretrained=false)."
    )


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_answers(seconds: float = 5.0) -> bool:
    """Return whether the hub with timm's weights can be reached; True behind a proxy, where it is unknown."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    hub = urlsplit(_hub())
    try:
        with socket.create_connection((hub.hostname, hub.port or 443), timeout=seconds):
            return True
    except OSError:
        return False
