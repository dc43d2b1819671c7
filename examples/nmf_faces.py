"""Find the parts that faces are made of, and draw them: W H with nothing negative.

Every face is a sum of `components_`, each a picture that is dark where it adds nothing: foreheads,
brows, a mouth, a light from the left. The bottom rows of the picture are faces that were held out,
and what the parts make of them.

Faces come from the folder that RATEWISE_DATA names (orl_faces, AT&T Laboratories Cambridge).
Without it handwritten digits are taken apart, which scikit-learn carries. ``--quick`` fits less.
The picture is nmf-faces.png in the folder that this is run in.
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import ratewise
from ratewise.data import sets
from ratewise.errors import MissingData

COLUMNS, SHOWN = 9, 18


def pictures() -> np.ndarray:
    """Return images with values in [0, 1], [n, height, width]."""
    try:
        faces = sets.faces(None) / 255
    except MissingData as error:
        print(f"{error}\nhandwritten digits instead")
        return load_digits().images / 16
    print(f"{len(faces)} faces of {faces.shape[1]} x {faces.shape[2]}")
    return faces


def main() -> None:
    images = pictures()
    shape = images.shape[1:]
    rows = images.reshape(len(images), -1)
    last = rows[9::10]  # of the faces, one picture of each person
    first = np.delete(rows, np.s_[9::10], axis=0)

    model = ratewise.StochasticNMF(
        SHOWN if "--quick" in sys.argv or len(rows[0]) < 100 else 49,
        max_iter=20 if "--quick" in sys.argv else 300,
        random_state=0,
        verbose=sys.stderr.isatty(),
    ).fit(first)
    parts = model.components_
    for name, x in (("fitted", first), ("held out", last)):
        left = np.linalg.norm(x - model.inverse_transform(model.transform(x)))
        print(f"{name}: {len(x)} pictures, relative error {left / np.linalg.norm(x):.3f}")
    dark = float(np.mean(parts < 0.01 * parts.max(1, keepdims=True)))
    print(f"{model.n_iter_} passes; {dark:.0%} of the parts' pixels are dark")

    strongest = np.argsort(-np.linalg.norm(parts, axis=1) * model.transform(first).mean(0))
    some = last[:: max(1, len(last) // COLUMNS)][:COLUMNS]
    tiles = [*parts[strongest[:SHOWN]], *some, *model.inverse_transform(model.transform(some))]
    high = len(tiles) // COLUMNS
    figure = Figure(figsize=(COLUMNS, 1.3 * high))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96, 0.05, 0.2)
    grid = figure.subplots(high, COLUMNS)
    for axes, tile in zip(grid.flat, tiles, strict=True):
        axes.imshow(tile.reshape(shape), cmap="gray", vmin=0)
        axes.axis("off")
    grid[0, 0].set_title("parts", loc="left", fontsize=10)
    words = "held out, and below what the parts make of them"
    grid[-2, 0].set_title(words, loc="left", fontsize=10)
    figure.savefig("nmf-faces.png", dpi=110)
    print("picture: nmf-faces.png")


if __name__ == "__main__":
    main()
