"""Train a small BERT on film reviews, praise or blame, under transformers' Trainer and GreedyLR.

The scheduler goes in as Trainer's own, `optimizers=(optimizer, scheduler)`, and one callback tells
it the training loss; Trainer steps it, logs the rate and keeps its memory in every checkpoint. No
evaluation set is needed for that; the one here only says how good the model is.

Sentences come from the folder that RATEWISE_DATA names (rt-polarity/rt-polarity.neg and .pos, Pang
and Lee 2005). Without it paragraphs of Python's own manual are told apart: are they about
statements, or about types? Words are hashed, so there is no vocabulary to fetch. ``--quick``
trains less.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import ratewise
from ratewise.integrations.transformers import ObserveCallback

WORDS, LENGTH = 4096, 24


def sentences() -> tuple[list[str], list[str]]:
    """Return the texts of the two classes."""
    folder = Path(os.environ.get("RATEWISE_DATA", "")) / "rt-polarity"
    if "RATEWISE_DATA" in os.environ and folder.is_dir():
        print(f"film reviews of {folder.name}: blame or praise?")
        blame, praise = (
            (folder / f"rt-polarity.{end}").read_text("latin-1").splitlines()
            for end in ("neg", "pos")
        )
        return blame, praise
    print("RATEWISE_DATA has no rt-polarity; Python's manual instead: on statements or on types?")
    from pydoc_data.topics import topics

    def paragraphs(*names: str) -> list[str]:
        parts = [part for name in names for part in topics[name].split("\n\n")]
        return list(dict.fromkeys(part for part in parts if len(part.split()) > 7))

    statements = paragraphs("compound", "assignment", "import", "execmodel", "debugger")
    types = paragraphs("types", "specialnames", "string-methods", "typesmapping", "typesseq")
    return statements, types


def as_row(text: str, label: int) -> dict[str, Any]:
    """Return what the model takes: word numbers, which of them are words, and the class."""
    codes = [1 + zlib.crc32(word.encode()) % (WORDS - 1) for word in text.lower().split()[:LENGTH]]
    padding = LENGTH - len(codes)
    mask = [1] * len(codes) + [0] * padding
    return {"input_ids": codes + [0] * padding, "attention_mask": mask, "labels": label}


def accuracy(prediction: Any) -> dict[str, float]:
    right = prediction.predictions.argmax(1) == prediction.label_ids
    return {"accuracy": float(right.mean())}


def main() -> None:
    torch.set_num_threads(1)  # the model is too small for more
    steps = 120 if "--quick" in sys.argv else 1200
    rows = [as_row(text, label) for label, texts in enumerate(sentences()) for text in texts]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [rows[index] for index in order]
    held_out = min(1000, len(rows) // 5)

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=WORDS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=LENGTH,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    # One batch says little of the next: a longer mean, and more of it before the rate moves.
    scheduler = ratewise.GreedyLR(optimizer, criterion="count", window=50, patience=10)

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=32,
                warmup_steps=20,  # becomes the scheduler's
                logging_steps=steps // 10,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=rows[held_out:],
            eval_dataset=rows[:held_out],
            compute_metrics=accuracy,
            optimizers=(optimizer, scheduler),  # 1. the scheduler is Trainer's
            callbacks=[ObserveCallback(scheduler)],  # 2. and hears the loss
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        for logs in trainer.state.log_history:
            if "loss" in logs:
                rate = logs["learning_rate"]
                print(f"step {logs['step']:4d}  loss {logs['loss']:.4f}  lr {rate:.2e}")
        right = trainer.evaluate()["eval_accuracy"]
    print(f"right on {right:.1%} of {held_out} texts it never saw\n")
    scheduler.explain(last=5)


if __name__ == "__main__":
    main()
