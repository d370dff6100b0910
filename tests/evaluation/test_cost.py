import numpy as np
import pytest

from evaluation_samples import synthetic, tiny_base, tiny_student, tuple_set
from pairstill.evaluation import bert_base
from pairstill.evaluation.cost import CostReferences, Timing, speed_ups
from pairstill.evaluation.evaluate import evaluate
from pairstill.evaluation.student_cost import measure_student, sample_groups, timed_scores
from pairstill.evaluation.timing import as_timing, rates

SMALL = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 2000,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base"))


def timing(rate, runtime="PyTorch", precision="float32"):
    return Timing(rate, rate, rate, 3, "pairs", runtime, precision, 1, 8, (128.0,))


def test_rates_repeat_and_take_the_median():
    calls = []
    found = rates(lambda: calls.append(1), 10, 0.0, least=4)
    assert (len(found), len(calls)) == (4, 5)
    one = as_timing([1.0, 9.0, 2.0], unit="pairs", precision="float32", threads=2, batch=4, lengths=(3.4, 9.0))
    assert (one.per_second, one.slowest, one.fastest, one.repetitions) == (2.0, 1.0, 9.0, 3)
    assert one.conditions() == "PyTorch float32, 2 threads, batch 4, 3 + 9 tokens"


def test_three_references():
    references = CostReferences(
        timing(100.0), (timing(10.0), timing(30.0, precision="bfloat16"), timing(40.0, "ONNX Runtime", "int8"))
    )
    assert references.bert_base_float32.per_second == 10.0
    assert references.bert_base_fastest.precision == "int8"

    class Fake:
        head = timing(2000.0)

    ups = speed_ups(Fake, references)
    assert (ups.teacher, ups.bert_base_float32, ups.bert_base_fastest) == (20.0, 200.0, 50.0)
    assert speed_ups(None, references).teacher is None
    assert speed_ups(Fake, CostReferences()).bert_base_fastest is None


def test_whole_groups_are_sampled():
    rows = tuple_set().split("test")
    found = sample_groups(rows, 12, seed=3)
    assert len(found) == 12
    assert len(np.unique(found.groups)) == 2


@pytest.mark.parametrize("name", ["dipair-tsf", "de-cos", "cross-encoder"])
def test_a_student_is_measured_through_its_three_steps(base, name):
    one = tuple_set()
    rows = one.split("test")
    student = tiny_student(name, base)
    logits, whole = timed_scores(student, one, rows)
    assert np.allclose(logits, student.score_tuples(one, rows))
    student.train()
    cost = measure_student(student, one, rows, seconds=0.1, end_to_end=whole)
    assert student.training
    assert cost.head.per_second > 0
    assert cost.score_alone.per_second > 0
    assert len(cost.encoders) == len(cost.bytes_per_item) == 2
    assert cost.end_to_end is whole
    assert cost.multiply_adds_per_pair == student.multiply_adds_per_pair(cost.head.lengths)
    assert cost.head.precision in ("float32", "bfloat16")
    assert (cost.rank_agreement is None) == (cost.head.precision == "float32")
    assert cost.rank_agreement is None or cost.rank_agreement >= 0.99


def test_bert_base_in_every_runtime_exports_once(tmp_path, monkeypatch):
    found, notes = bert_base.measure_bert_base("full", seconds=0.1, folder=tmp_path, **SMALL)
    kinds = [(one.runtime, one.precision) for one in found]
    assert kinds[0] == ("PyTorch", "float32")
    assert kinds[-2:] == [("ONNX Runtime", "float32"), ("ONNX Runtime", "int8")], notes
    monkeypatch.setattr("torch.onnx.export", None)
    paths = bert_base.exported(tmp_path, **SMALL)
    assert all(path.exists() for path in paths)
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].parent.name]
    assert bert_base.measure_bert_base("none") == ((), ("BERT-base was not measured.",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bert_base.cache_folder() == tmp_path / "pairstill"


def test_a_failing_export_is_a_note(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no exporter here\nand more")

    monkeypatch.setattr(bert_base, "exported", fail)
    found, notes = bert_base.measure_bert_base("full", seconds=0.1, folder=tmp_path, **SMALL)
    assert all(one.runtime == "PyTorch" for one in found)
    assert notes[-1] == "BERT-base in ONNX Runtime could not be measured: no exporter here"


def test_evaluate_scores_times_and_compares(base):
    one = tuple_set()
    first, second = tiny_student("de-cos", base), tiny_student("de-cos", base)
    teacher = tiny_student("cross-encoder", base, max_lengths=(24,))
    found = evaluate(
        one, splits=("test", "valid"), teacher=("big", teacher), students=[("small", first), ("small", second)],
        base=str(base), cost_seconds=0.2, bert_base="none", resamples=20,
    )  # fmt: skip
    comparison = found.comparison
    assert [fact.name for fact in comparison.systems] == [
        "big", "small", "BM25", "word overlap", "untrained cosine", "constant",
    ]  # fmt: skip
    assert comparison.facts("small").seeds == 2
    assert comparison.references.teacher == comparison.facts("big").cost.head
    assert speed_ups(comparison.facts("big").cost, comparison.references).teacher == 1.0
    assert [split.split for split in comparison.splits] == ["test", "valid"]
    assert comparison.machine["threads"] >= 1


def test_without_a_teacher_model_there_is_no_speed_up_against_it(base):
    one = tuple_set()
    rows = {"test": one.split("test")}
    found = evaluate(
        one, teacher=synthetic(rows, "big", "teacher", 0.5), students=[("small", tiny_student("de-cos", base))],
        floors=False, cost_seconds=0.1, bert_base="none", resamples=20,
    ).comparison  # fmt: skip
    assert found.references.teacher is None
    assert "No teacher model was given: there is no speed-up against the teacher." in found.references.notes
    assert found.main.system("small").retention is not None


@pytest.mark.parametrize(
    ("second", "warned"),
    [("cpu 100 0 0 190 0", False), ("cpu 190 0 0 110 0", True), ("cpu 100 0 0 100 0", False), ("nonsense", False)],
)
def test_a_busy_machine_is_said(monkeypatch, second, warned):
    from pathlib import Path

    from pairstill.evaluation import evaluate as module

    answers = iter(["cpu 100 0 0 100 0", second])
    monkeypatch.setattr(Path, "read_text", lambda self: next(answers))
    found = module._busy(0.0)
    assert bool(found) == warned
    assert not warned or "took 90% of the machine" in found[0]
