"""What a score gains when equal pictures stand on both sides of a split."""

from typing import Any

import numpy as np
import pandas as pd

from foldsmith.evaluation.chance import compare_paired


def compare_leak(honest: pd.Series, leaky: pd.Series, duplicated: set[str]) -> dict[str, Any]:
    """The figures of leak.json, over the images that both have held out.

    `honest` and `leaky` say by path whether an image was right; `duplicated` are the paths with an equal
    picture. The gain is leaky less honest, paired image by image, with its standard error.
    """
    paths = honest.index.intersection(leaky.index)
    one, other = honest[paths].to_numpy(), leaky[paths].to_numpy()
    among = np.array([path in duplicated for path in paths], dtype=bool)
    paired = compare_paired(one, other)
    return {
        "num_images": len(paths),
        "num_duplicates": int(among.sum()),
        "accuracy": float(one.mean()),
        "accuracy_leaky": float(other.mean()),
        "gain": paired.difference,
        "gain_error": paired.standard_error,
        "accuracy_duplicates": float(one[among].mean()) if among.any() else None,
        "accuracy_leaky_duplicates": float(other[among].mean()) if among.any() else None,
    }
