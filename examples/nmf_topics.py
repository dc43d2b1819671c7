"""Find the topics of a pile of texts, and say what a text that was not in it is about.

Texts become a sparse matrix of tf-idf weights, and `StochasticNMF` never makes it dense. Components
are topics: the words with the largest weights say what each is about.

Paragraphs come from the folder that RATEWISE_DATA names (wikitext-2, articles of Wikipedia).
Without it they are those of Python's own manual. ``--quick`` fits less.
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import ratewise
from ratewise.data import sets
from ratewise.errors import MissingData

WORDS = 8


def paragraphs() -> list[str]:
    """Return texts of 20 words or more."""
    try:
        text, mark = sets.wikitext(None), "\n"
    except MissingData as error:
        print(f"{error}\nPython's manual instead")
        text, mark = sets.pydoc(), "\n\n"
    text = text.replace("<unk>", " ").replace("@", " ")
    return [part for part in text.split(mark) if len(part.split()) >= 20]


def main() -> None:
    texts = paragraphs()
    held_out = texts[7::100][:5]
    texts = [text for text in texts if text not in held_out]
    vectorizer = TfidfVectorizer(
        stop_words="english", min_df=3, max_df=0.2, sublinear_tf=True, token_pattern=r"[A-Za-z]{3,}"
    )
    x = vectorizer.fit_transform(texts)
    print(f"{x.shape[0]} texts, {x.shape[1]} words, {x.nnz} numbers that are not 0")

    model = ratewise.StochasticNMF(
        8 if "--quick" in sys.argv else 16,
        max_iter=20 if "--quick" in sys.argv else 200,
        tol=1e-3,
        random_state=0,
        verbose=sys.stderr.isatty(),
    )
    codes = model.fit_transform(x)
    words = vectorizer.get_feature_names_out()
    share = codes * model.components_.sum(1)
    share = share.sum(0) / share.sum()
    for topic in np.argsort(-share):
        best = np.argsort(-model.components_[topic])[:WORDS]
        print(f"topic {topic:2d}  {share[topic]:4.0%}  {' '.join(words[best])}")

    print("\ntexts that were not in the pile:")
    found = model.transform(vectorizer.transform(held_out)) * model.components_.sum(1)
    for text, weights in zip(held_out, found, strict=True):
        topic = int(weights.argmax())
        start = " ".join(text.split()[:9])
        print(f"topic {topic:2d}  {weights[topic] / weights.sum():4.0%}  {start} ...")


if __name__ == "__main__":
    main()
