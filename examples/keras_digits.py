"""Train a Keras model on handwritten digits under GreedyLR: one more callback in `fit`.

The callback hears the loss of every batch: from Adam's usual rate it climbs while the loss falls,
and comes down when that stops. Every change can say why. With ``state_file="greedy.json"``,
before a callback that saves the model, an interrupted run goes on exactly where it was.

Keras runs on torch here, unless KERAS_BACKEND says otherwise. ``--quick`` trains less.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is imported

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ratewise.integrations.keras import GreedyLR


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, labels, random_state=0)

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    greedy = GreedyLR()  # the whole change: this, and its place in `callbacks`

    history = model.fit(
        x,
        y,
        batch_size=64,
        epochs=4 if "--quick" in sys.argv else 25,
        validation_data=(x_test, y_test),
        verbose=0,
        callbacks=[greedy],
    ).history

    columns = ("loss", "val_loss", "val_accuracy", "learning_rate")
    rows = zip(*(history[column] for column in columns), strict=True)
    for epoch, (loss, val_loss, accuracy, rate) in enumerate(rows, start=1):
        print(
            f"epoch {epoch:2d}  loss {loss:.4f}  val_loss {val_loss:.4f}  "
            f"val_accuracy {accuracy:.3f}  lr {rate:.2e}"
        )
    print(f"\n{len(greedy.events)} changes of the rate, the last five:")
    for event in greedy.events[-5:]:
        print(event.words())


if __name__ == "__main__":
    main()
