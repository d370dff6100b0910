"""How many texts a second become ids of their unigrams and bigrams, and how fast a vocabulary is learned.

Texts of Zipf-distributed words, or those of a tuple set's field, as the Arrow arrays that training reads; a vocabulary of
150,000 n-grams, and hash buckets.

    python benchmarks/ngram_extraction.py --words 4 12
    python benchmarks/ngram_extraction.py --tuples runs/homedepot/tuples
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import pyarrow as pa

from pairstill.machine import describe, usable_cores
from pairstill.tokens.ngram_text import NGramSettings
from pairstill.tokens.ngrams import NGramTokenizer
from pairstill.tokens.texts import ArrowTexts
from pairstill.tuples import TupleSet


def made_texts(texts: int, words: int, seed: int = 0) -> list[str]:
    """Texts of `words` words on average, from 200,000 made words; frequent words are frequent as in language."""
    random = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    known = ["".join(letters[random.integers(0, 26, length)]) for length in random.integers(2, 11, 200_000)]
    lengths = random.poisson(words - 1, texts) + 1
    drawn = np.minimum(random.zipf(1.2, lengths.sum()), len(known)) - 1
    ends = np.cumsum(lengths)
    return [
        " ".join(known[word] for word in drawn[end - length : end]) for end, length in zip(ends, lengths, strict=True)
    ]


def measure(texts: ArrowTexts, settings: NGramSettings, threads: int, rounds: int) -> dict[str, float]:
    began = time.perf_counter()
    tokenizer = NGramTokenizer.learn(texts, settings, size=150_000)
    learned = time.perf_counter() - began
    tokens = tokenizer.encode(texts, threads=threads)
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        tokenizer.encode(texts, threads=threads)
        rates.append(len(texts) / (time.perf_counter() - began))
    learning = {} if settings.hash_buckets else {"learning_texts_per_s": round(len(texts) / learned)}
    return {
        "texts_per_s": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "fastest": round(max(rates)),
        **learning,
        "entries": len(tokenizer),
        "ids_per_text": round(float(tokens.lengths.mean()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuples", help="Tuple set whose texts are read; made texts if left out.")
    parser.add_argument("--words", type=int, nargs="+", default=[4, 12], help="Mean words of made texts.")
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    threads = arguments.threads or usable_cores()
    if arguments.tuples:
        tuple_set = TupleSet.load(arguments.tuples)
        held = {name: tuple_set.texts(field) for field, name in enumerate(tuple_set.field_names)}
        sources = {name: (one * -(-arguments.texts // len(one)))[: arguments.texts] for name, one in held.items()}
    else:
        sources = {f"made, {words} words": made_texts(arguments.texts, words) for words in arguments.words}
    results = {}
    for name, texts in sources.items():
        results[name] = {
            "texts": len(texts),
            "mean_words": round(statistics.mean(len(one.split()) for one in texts), 2),
            "mean_characters": round(statistics.mean(len(one) for one in texts), 1),
            "vocabulary": measure(ArrowTexts(pa.array(texts)), NGramSettings(), threads, arguments.rounds),
            "buckets": measure(
                ArrowTexts(pa.array(texts)), NGramSettings(hash_buckets=1 << 20), threads, arguments.rounds
            ),
        }
    print(json.dumps({"machine": describe(), "threads": threads, **results}, indent=2))


if __name__ == "__main__":
    main()
