import numpy as np
import pytest
import torch

from analysis_samples import close, kept_students, sample_inputs, start_head
from evaluation_samples import tiny_base, tiny_student
from pairstill.evaluation.analyses.kept import encode_sample, reason_against
from pairstill.evaluation.analyses.slot_attention import TARGETS, attention_shares
from pairstill.evaluation.analyses.slot_drift import drift, load_base
from pairstill.evaluation.analyses.slot_probe import probe
from pairstill.evaluation.analyses.slots import slots
from pairstill.metrics.graded import Pearson


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    base = tiny_base(tmp_path_factory.mktemp("slots") / "base")
    found = {name: start_head(one) for name, one in kept_students(base).items()}
    found["base"] = base
    return found


@pytest.fixture(scope="module")
def inputs():
    return sample_inputs(queries=60)


def probabilities(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_a_slot_is_removed_by_its_mean(students, inputs):
    student = students["tsf"]
    found = slots(inputs, [("tsf", student)], Pearson(), pairs=10_000).systems[0]
    assert found.rows == len(inputs.tuples)
    assert [(one.field, one.slot) for one in found.slots] == (
        [("query", slot) for slot in range(3)] + [("product", slot) for slot in range(5)]
    )
    items = [np.unique(inputs.tuples.index[:, field]) for field in range(2)]
    vectors = [student.encode(f, [inputs.tuple_set.texts(f)[item] for item in items[f]]) for f in range(2)]

    def pearson(changed):
        logits = []
        for row in inputs.tuples.index:
            at = [int(np.flatnonzero(items[field] == row[field])[0]) for field in range(2)]
            one = [changed[field].take(np.array([at[field]])) for field in range(2)]
            logits.append(student.score_representations(one, np.zeros((1, 2), dtype=np.int64))[0, 0])
        return np.corrcoef(probabilities(np.array(logits)), inputs.labels)[0, 1]

    close(found.full, pearson(vectors))
    product = vectors[1].vectors.copy()
    there = [item for item in range(len(product)) if vectors[1].lengths[item] > 2]
    mean = sum(vectors[1].vectors[item, 2] for item in there) / len(there)
    for item in there:
        product[item, 2] = mean
    changed = type(vectors[1])(product, vectors[1].lengths, vectors[1].similarity)
    slot = next(one for one in found.slots if (one.field, one.slot) == ("product", 2))
    assert slot.items == len(there)
    close(slot.removed, pearson([vectors[0], changed]))
    assert slot.change == slot.removed - found.full
    means = [
        encode_sample(student, inputs.tuple_set, inputs.tuples).without(f, range(n))[f] for f, n in ((0, 3), (1, 5))
    ]
    close(found.fields["query"], pearson([means[0], vectors[1]]))
    close(found.fields["product"], pearson([vectors[0], means[1]]))
    close(found.none, pearson(means))
    expected = np.corrcoef(
        probabilities(student.score_tuples(inputs.tuple_set, inputs.tuples)[:, 0]), probabilities(inputs.logits["big"][:, 0])
    )[0, 1]  # fmt: skip
    close(found.teacher, expected)


@pytest.mark.parametrize(("name", "field"), [("tsf", 1), ("last", 0)])
def test_attention_is_that_of_the_last_layer(students, inputs, name, field):
    student = students[name].eval()
    texts = [*inputs.tuple_set.texts(field)[:20], "lamp", "lamp door"]
    tokens = student.tokenize(field, texts)
    found = attention_shares(student, field, tokens)
    keep = student.keeps[field]
    expected = {(slot, target): [] for slot in range(keep.tokens) for target in TARGETS}
    model = student.encoder(field).model
    implementation = model.config._attn_implementation
    for text in range(len(texts)):
        ids, _ = tokens.padded(np.array([text]))
        model.set_attn_implementation("eager")
        with torch.no_grad():
            weights = model(input_ids=torch.from_numpy(ids), output_attentions=True).attentions[-1][0].mean(dim=0)
        model.set_attn_implementation(implementation)
        length = ids.shape[1]
        kept = min(length, keep.tokens)
        window = range(length - kept, length) if keep.take == "last" else range(kept)
        for slot, place in enumerate(window):
            sums = dict.fromkeys(TARGETS, 0.0)
            for key in range(length):
                target = (
                    "itself" if key == place else "[CLS]" if key == 0 else "[SEP]" if key == length - 1
                    else "other kept" if key in window else "beyond kept"
                )  # fmt: skip
                sums[target] += float(weights[place, key])
            for target, value in sums.items():
                expected[slot, target].append(value)
    for slot, shares in enumerate(found):
        for target, value in shares.items():
            if keep.take == "first" and slot == 0 and target == "[CLS]":
                assert value is None
            else:
                close(value, np.mean(expected[slot, target]))
        assert sum(value for value in shares.values() if value is not None) == pytest.approx(1.0)


def test_a_slot_that_no_text_fills_has_no_attention(students):
    student = students["tsf"]
    assert attention_shares(student, 1, student.tokenize(1, ["lamp"]))[4] == dict.fromkeys(TARGETS)


def test_drift_is_the_mean_cosine_with_the_base(students, inputs):
    student = tiny_student("dipair-tsf", students["base"], keep=[3], projection=16)
    base = load_base(student)
    tokens = student.tokenize(1, [*inputs.tuple_set.texts(1)[:10], "lamp"])
    assert drift(student, base, 1, tokens) == pytest.approx([1.0, 1.0, 1.0])
    with torch.no_grad():
        for one in student.encoder(0).parameters():
            one.add_(torch.randn_like(one) * 0.1)
    found = drift(student, base, 1, tokens)
    cosines = []
    for text in range(len(tokens)):
        ids, lengths = (torch.from_numpy(one) for one in tokens.padded(np.array([text])))
        with torch.no_grad():
            pair = [encoder.hidden_states(ids, lengths)[0, :3] for encoder in (student.encoder(1), base)]
        cosines.append([float(a @ b / (a.norm() * b.norm())) for a, b in zip(*pair, strict=True)])
    close(found, np.mean(cosines, axis=0))
    assert max(found) < 0.999


def test_there_is_no_drift_without_the_base(students, tmp_path):
    shaped = tiny_student("dipair-tsf", tiny_base(tmp_path / "base"), keep=[3], projection=16)
    (tmp_path / "base" / "config.json").unlink()
    assert "is not at hand" in load_base(shaped)


def test_a_probe_is_a_ridge_regression_on_held_out_groups(students, inputs):
    student = students["tsf"]
    encoded = encode_sample(student, inputs.tuple_set, inputs.tuples)
    target = probabilities(inputs.logits["big"][:, 0])
    found = probe(encoded, 1, 2, target, inputs.groups)
    features, rows = [], []
    for row, (query, product) in enumerate(encoded.index):
        left, right = encoded.representations[0], encoded.representations[1]
        if right.lengths[product] <= 2:
            continue
        mean = left.vectors[query, : left.lengths[query]].mean(axis=0)
        vector = right.vectors[product, 2]
        features.append(np.concatenate([vector * mean, abs(vector - mean)]).astype(np.float64))
        rows.append(row)
    features, rows = np.array(features), np.array(rows)
    from sklearn.model_selection import GroupKFold

    predicted = np.zeros(len(rows))
    for train, held_out in GroupKFold(5).split(features, groups=inputs.groups[rows]):
        centre, spread = features[train].mean(axis=0), features[train].std(axis=0)
        x, y = (features[train] - centre) / spread, target[rows[train]]
        gram = x.T @ x + 0.1 * len(train) * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, x.T @ (y - y.mean()))
        predicted[held_out] = (features[held_out] - centre) / spread @ weights + y.mean()
    close(found.value, np.corrcoef(predicted, target[rows])[0, 1])


def test_a_probe_of_few_rows_has_no_value(students):
    few = sample_inputs(queries=9)
    encoded = encode_sample(students["tsf"], few.tuple_set, few.tuples)
    assert "fewer than 50 rows" in probe(encoded, 0, 0, np.zeros(len(few.groups)), few.groups).reason


def test_learned_codes_have_no_tokens(students, inputs):
    found = slots(inputs, [("codes", students["codes"])], Pearson(), pairs=100).systems[0]
    assert [(one.field, one.slot) for one in found.slots] == [("query", 0), ("query", 1), ("query", 2), ("product", 0)]
    assert all(one.attention is None and one.cosine is None for one in found.slots)
    assert found.notes == (
        "No attention and drift of query: its vectors are not those of tokens.",
        "No attention and drift of product: its vectors are not those of tokens.",
    )


def test_the_sample_is_bounded_and_seeded(students, inputs):
    named = [("tsf", students["tsf"])]
    ticks = []
    found = slots(inputs, named, Pearson(), pairs=60, progress=lambda done, total: ticks.append((done, total)))
    assert found.systems[0].rows == 60
    assert ticks[-1] == (8, 8)
    assert found == slots(inputs, named, Pearson(), pairs=60)
    assert found != slots(inputs, named, Pearson(), pairs=60, seed=1)


def test_students_without_slots_say_why(students):
    base = students["base"]
    assert reason_against(students["codes"]) is None
    assert reason_against(tiny_student("de-cos", base)) == "a de-cos keeps one vector a text"
    for name in ("colbert", "cross-encoder"):
        assert reason_against(tiny_student(name, base)) == f"a {name} keeps no fixed number of vectors a text"
