"""Exported students and stores to serve, and a service in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import torch

from pairstill.export import export_onnx
from pairstill.files import write_parquet
from pairstill.scoring.encode import encode_store
from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config
from retrieval_samples import tiny_student
from tiny import WORDS

ITEMS = 120


@dataclass(frozen=True)
class Shop:
    """What is served, and the students in PyTorch that the answers are compared with."""

    folder: Path
    student: Student
    searcher: Student
    teacher: Student
    ids: list[str]
    texts: list[str]

    @property
    def arguments(self) -> list[str]:
        """Of `pairstill serve`, all of it."""
        names = {
            "--student": "ranker", "--store": "ranker-items", "--texts": "texts.parquet", "--search-student": "searcher",
            "--search-store": "searcher-items", "--teacher": "teacher",
        }  # fmt: skip
        found = []
        for option, name in names.items():
            found += [option, f"{'2=' if option == '--store' else ''}{self.folder / name}"]
        return found

    def logits(self, query: str, texts: list[str]) -> np.ndarray:
        return logits_of(self.student, [(query, text) for text in texts])


def logits_of(student: Student, tuples: list[tuple[str, ...]]) -> np.ndarray:
    return np.asarray(student.predict(tuples, activation_fn=torch.nn.Identity()))


def bag_student(seed: int, **encoder: Any) -> Student:
    """A BERT2DNN, whose export needs no tracing."""
    torch.manual_seed(seed)
    values = {"head": {"widths": [24, 12]}, "encoder": {"minimum_count": 1, "max_lengths": [16], **encoder}}
    student = make_student("bert2dnn", parse_config("bert2dnn", values), [WORDS] * 2)
    with torch.no_grad():
        for parameter in student.new_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return student.eval()


def open_shop(folder: Path, base: Path) -> Shop:
    """Three exported students and two stores of the same items."""
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, random.integers(2, 9))) for _ in range(ITEMS)]
    ids = [f"p{number}" for number in range(ITEMS)]
    write_parquet(folder / "texts.parquet", pa.table({"id": ids, "text": texts}))
    student, searcher, teacher = bag_student(1), tiny_student(base, "de-cos", encoder={"layers": 1}), bag_student(2)
    for name, one in (("ranker", student), ("searcher", searcher), ("teacher", teacher)):
        export_onnx(one, folder / name)
    for name, one in (("ranker-items", student), ("searcher-items", searcher)):
        encode_store(one, 1, ids, texts, folder / name, "item")
    return Shop(folder, student, searcher, teacher, ids, texts)


class Server:
    """`pairstill serve` in a process, on a free port."""

    def __init__(self, arguments: list[str], **environment: str) -> None:
        command = [
            sys.executable,
            "-m",
            "pairstill",
            "serve",
            "--port",
            "0",
            "--threads",
            "1",
            "--drain-s",
            "0",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def __enter__(self) -> Server:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate(timeout=30)[1])
        self.address = line.split()[1]
        self.client = httpx.Client(base_url=self.address, timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        _, self.log = self.process.communicate(timeout=30)
        if error is None:
            assert self.process.returncode == 0

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body)
