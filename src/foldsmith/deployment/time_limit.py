"""Which networks and views predict within a time limit."""

from collections.abc import Iterator, Sequence

from foldsmith.inference.predictor import RunPredictor


def passes_of(predictor: RunPredictor) -> int:
    """Return how often an image passes through a network; a frozen extractor's features serve all heads."""
    distinct = {
        id(network.model.extractor) if network.is_frozen else id(network) for network in predictor.networks
    }
    return len(distinct) * len(predictor.views)


def fit_time(
    predictors: Sequence[RunPredictor], seconds: float, available: float
) -> tuple[list[RunPredictor], str]:
    """Return the predictors that take at most `available` seconds an image, and what they leave out.

    `seconds` are those of all networks and views. Views are left out first, then the last networks of each
    run, by the share of passes through a network; at least one network of each run remains.
    """
    total = fewest = sum(map(passes_of, predictors))
    chosen, left_out = list(predictors), ""
    for reduced, said in reductions(predictors):
        passes = sum(map(passes_of, reduced))
        if seconds * fewest / total <= available:
            break
        if passes < fewest:  # heads on a shared extractor cost nothing
            chosen, left_out, fewest = reduced, said, passes
    return chosen, left_out


def reductions(predictors: Sequence[RunPredictor]) -> Iterator[tuple[list[RunPredictor], str]]:
    """Yield the predictors with fewer and fewer views and networks, and what was left out."""
    single = [predictor.limited(predictor.networks, _first_view(predictor)) for predictor in predictors]
    yield single, "one view"
    for count in range(max(len(predictor.networks) for predictor in predictors) - 1, 0, -1):
        fewer = [predictor.limited(predictor.networks[:count], predictor.views) for predictor in single]
        yield fewer, f"one view, at most {count} networks of a run"


def _first_view(predictor: RunPredictor) -> list[str]:
    return ["identity"] if "identity" in predictor.views else list(predictor.views[:1])
