"""Tables that are updated row by row: gradients, Adam and Adagrad, clipping, the running mean, and resuming."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pairstill.errors import InputError
from pairstill.losses import DistillationLoss
from pairstill.students import Student, make_student
from pairstill.students.encoders.bag import BagTable
from pairstill.students.persistence import parse_config
from pairstill.training import loop
from pairstill.training.data import TrainingData, corpus_of
from pairstill.training.loop import fit
from pairstill.training.row_updates import RowAdagrad, RowAdam, RowGradients, clip_gradients, row_tables
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import token_sources
from pairstill.training.validation import Validation
from pairstill.training.weight_average import WeightAverage
from pairstill.tuples import TupleSet

SETTINGS = TrainingSettings(
    pairs=480, batch_size=16, learning_rate=3e-3, evaluate_every=96, checkpoint_every_s=0.0, average_decay=0.9
)


def bag(rows: int = 20, dim: int = 3) -> BagTable:
    torch.manual_seed(0)
    return BagTable(rows, dim)


def backward(module: BagTable, ids: list[int], seed: int) -> None:
    # Two bags, of one row and of the others.
    outputs = module(torch.tensor([ids[:1] * (len(ids) - 1), ids[1:]]), torch.tensor([1, len(ids) - 1]))
    (outputs * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(seed))).sum().backward()


BATCHES = [[3, 3, 7, 1], [1, 19, 3, 3], [4, 5, 5, 5], [3, 1, 1, 0]]


def test_merged_gradients_are_the_dense_ones_by_row() -> None:
    module = bag()
    rows = RowGradients(row_tables(module))
    # As where two fields share a table, two gradients add up.
    for number in (0, 1):
        backward(module, BATCHES[number], number)
    assert module.weight.grad is not None
    dense = module.weight.grad.to_dense()
    with rows.collected():
        for number in (0, 1):
            backward(module, BATCHES[number], number)
    assert module.weight.grad._indices()[0].tolist() == [1, 3, 7, 19]
    torch.testing.assert_close(module.weight.grad.to_dense(), dense)


def test_the_steps_are_those_of_pytorchs_sparse_adam() -> None:
    ours, theirs = bag(), bag()
    rows = RowGradients(row_tables(ours))
    optimizer = RowAdam([{"params": rows.tables, "lr": 0.05}], (0.9, 0.99), 1e-6)
    reference = torch.optim.SparseAdam(theirs.parameters(), lr=0.05, betas=(0.9, 0.99), eps=1e-6)
    for number, ids in enumerate(BATCHES * 3):
        with rows.collected():
            backward(ours, ids, number)
        backward(theirs, ids, number)
        for one in (optimizer, reference):
            one.step()
            one.zero_grad()
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_the_steps_are_those_of_a_plain_adagrad() -> None:
    module = bag()
    rows = RowGradients(row_tables(module))
    optimizer = RowAdagrad([{"params": rows.tables, "lr": 0.05}], 0.1)
    weights = module.weight.detach().double().numpy().copy()
    sums = np.full_like(weights, 0.1)
    for number, ids in enumerate(BATCHES * 3):
        with rows.collected():
            backward(module, ids, number)
        assert module.weight.grad is not None
        gradient = module.weight.grad.to_dense().double().numpy()
        optimizer.step()
        optimizer.zero_grad()
        sums += gradient**2
        weights -= 0.05 * gradient / np.sqrt(sums)
        np.testing.assert_allclose(module.weight.detach().numpy(), weights, rtol=1e-5, atol=1e-6)


def test_tiny_gradients_move_rows_as_far_as_large_ones() -> None:
    moved = []
    for size in (1.0, 1e-8):
        module = bag()
        rows = RowGradients(row_tables(module))
        before = module.weight.detach().clone()
        with rows.collected():
            (module(torch.tensor([[3, 5]]), torch.tensor([2])) * size).sum().backward()
        RowAdam([{"params": rows.tables, "lr": 0.01}], (0.9, 0.999)).step()
        moved.append(module.weight.detach() - before)
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-2, atol=1e-5)
    assert float(moved[0][3, 0]) == pytest.approx(-0.01, rel=1e-3)


def test_gradients_are_clipped_together() -> None:
    sparse, dense = bag(), copy.deepcopy(bag())
    dense.sparse = False
    layers = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))]
    for module, layer in zip((sparse, dense), layers, strict=True):
        with RowGradients(row_tables(module)).collected():
            backward(module, BATCHES[0], 0)
        (layer * torch.arange(4.0)).sum().backward()
    clip_gradients([sparse.weight, layers[0]], 0.5)
    clip_gradients([dense.weight, layers[1]], 0.5)
    assert sparse.weight.grad is not None
    torch.testing.assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)
    torch.testing.assert_close(layers[0].grad, layers[1].grad)


def test_gradients_whose_norm_is_small_are_left_alone() -> None:
    module, layer = bag(), nn.Parameter(torch.ones(4))
    with RowGradients(row_tables(module)).collected():
        backward(module, BATCHES[0], 0)
    (layer * 0.01).sum().backward()
    assert module.weight.grad is not None
    before = module.weight.grad._values().clone()
    clip_gradients([module.weight, layer], 100.0)
    torch.testing.assert_close(module.weight.grad._values(), before, rtol=0, atol=0)
    clip_gradients([], 1.0)


def test_steps_on_two_threads_are_those_on_one() -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            module = bag(300, 7)
            rows = RowGradients(row_tables(module))
            optimizer = RowAdam([{"params": rows.tables, "lr": 0.05}], (0.9, 0.99))
            average = WeightAverage(rows.tables, 0.9, rows.tables)
            for step in range(1, 6):
                with rows.collected():
                    backward(module, torch.randint(300, (400,)).tolist(), step)
                assert torch.get_num_threads() == count
                average.before_update()
                optimizer.step()
                average.update(step)
            found.append((module.weight.detach(), average.means[0]))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_the_running_mean_of_a_table_is_that_of_a_dense_parameter() -> None:
    module = bag()
    rows = RowGradients(row_tables(module))
    optimizer = RowAdam([{"params": rows.tables, "lr": 0.05}], (0.9, 0.99), 1e-6)
    lazy = WeightAverage(rows.tables, 0.9, rows.tables)
    plain = WeightAverage(rows.tables, 0.9)
    resumed = WeightAverage(rows.tables, 0.9, rows.tables)
    for step in range(1, 30):
        with rows.collected():
            backward(module, BATCHES[step % 4], step)
        lazy.before_update()
        optimizer.step()
        optimizer.zero_grad()
        lazy.update(step)
        plain.update(step)
        if step == 11:
            with lazy.in_place():
                torch.testing.assert_close(module.weight.detach(), plain.means[0])
        if step == 20:
            resumed.load({name: one.clone() for name, one in lazy.state().items()})
    resumed_state = {name: one.shape for name, one in resumed.state().items()}
    assert resumed_state == {"0": (20, 3), "0.log": (20,), "log": ()}
    with lazy.in_place():
        torch.testing.assert_close(module.weight.detach(), plain.means[0])


def student(tuple_set: TupleSet) -> Student:
    torch.manual_seed(3)
    config = parse_config("bert2dnn", {"head": {"widths": [16]}, "encoder": {"dim": 8, "minimum_count": 1}})
    return make_student("bert2dnn", config, corpus_of(tuple_set, tuple_set.split("train")))


def data(tuple_set: TupleSet) -> TrainingData:
    tuples = tuple_set.split("train")
    assert tuples.labels is not None
    return TrainingData(tuples, (tuples.labels * 4 - 2).astype(np.float32)[:, None])


class Interruption(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "adagrad"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    tuple_set: TupleSet, tmp_path: Path, optimizer: str
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer)
    validation = Validation.on_labels(tuple_set, "valid")

    def train(folder: str, settings: TrainingSettings = settings, stop: int | None = None) -> Student:
        def progress(done: int, total: int) -> None:
            if done == stop:
                raise Interruption

        model = student(tuple_set)
        sources = token_sources(model, tuple_set)
        fit(
            model,
            sources,
            data(tuple_set),
            DistillationLoss(),
            settings,
            tmp_path / folder,
            validation=validation,
            progress=progress,
        )
        return model

    expected = train("calm", replace(settings, checkpoint_every_s=1e9)).state_dict()
    for stop in (96, 208, 464):
        with pytest.raises(Interruption):
            train(str(stop), stop=stop)
        torch.manual_seed(99)
        for name, tensor in train(str(stop)).state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_everything_learns_at_the_rate_of_new_parameters(
    tuple_set: TupleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {}
    groups = loop._groups

    def noted(*arguments: Any) -> list[dict[str, Any]]:
        found = groups(*arguments)
        peaks.update({parameter.shape: group["peak"] for group in found for parameter in group["params"]})
        return found

    monkeypatch.setattr(loop, "_groups", noted)
    model = student(tuple_set)
    settings = replace(SETTINGS, pairs=16, learning_rate=2e-3, encoder_learning_rate=1e-5, table_rate=4)
    fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), settings, tmp_path)
    table = model.state_dict()["encoders.0.table.weight"].shape
    assert peaks.pop(table) == pytest.approx(8e-3)
    assert set(peaks.values()) == {2e-3}


def test_rows_that_no_batch_read_stay_as_they_were(tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(tuple_set)
    before = model.state_dict()["encoders.0.table.weight"].clone()
    few = data(tuple_set)
    few = replace(few, tuples=few.tuples.take(np.arange(2)), teacher_logits=few.teacher_logits[:2])  # type: ignore[index]
    fit(model, token_sources(model, tuple_set), few, DistillationLoss(), replace(SETTINGS, pairs=64), tmp_path)
    read = {
        int(one)
        for field in range(2)
        for one in model.tokenize(field, [tuple_set.texts(field)[row] for row in few.tuples.index[:, field]]).ids
    }
    after = model.state_dict()["encoders.0.table.weight"]
    changed = {int(one) for one in (after != before).any(dim=1).nonzero()[:, 0]}
    assert changed == read


class TwoProcesses:
    device = torch.device("cpu")
    is_main_process = True
    num_processes = 2
    process_index = 0


def test_several_processes_and_other_devices_are_refused(tuple_set: TupleSet, tmp_path: Path) -> None:
    model = student(tuple_set)
    with pytest.raises(InputError, match="row by row, by one process"):
        fit(model, token_sources(model, tuple_set), data(tuple_set), DistillationLoss(), SETTINGS, tmp_path, accelerator=TwoProcesses())  # fmt: skip
    with pytest.raises(InputError, match="done on a CPU"):
        RowGradients(row_tables(model.to("meta")))


def test_a_pass_that_fails_leaves_no_gradient_and_ends_the_collecting() -> None:
    module = bag()

    def fails() -> None:
        with RowGradients(row_tables(module)).collected():
            backward(module, BATCHES[0], 0)
            backward(module, [3, 1000], 0)

    with pytest.raises(IndexError, match="row 1000 of a table of 20"):
        fails()
    assert module.weight.grad is None
    assert module.collected is None
