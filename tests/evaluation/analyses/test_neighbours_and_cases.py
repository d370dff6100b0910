import numpy as np
import pytest

from analysis_samples import bag_student, kept_students, sample_inputs
from evaluation_samples import WORDS, tiny_base, tiny_student
from pairstill.errors import InputError
from pairstill.evaluation.analyses.cases import MOST_ROWS, cases
from pairstill.evaluation.analyses.inputs import SHOWN_CHARACTERS, shown_text
from pairstill.evaluation.analyses.neighbours import (
    FREQUENT,
    EmbeddingTable,
    check_terms,
    frequent_terms,
    neighbours,
    table_of,
)
from pairstill.students.persistence import make_student, parse_config


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("neighbours") / "base")


def test_neighbours_are_the_greatest_cosines(base):
    students = {"bag": bag_student(), "words": kept_students(base)["tsf"], "cross": tiny_student("cross-encoder", base)}
    tables = {name: table_of(one) for name, one in students.items()}
    found = neighbours(["lamp", "garden hose", "Nail"], tables, 4)
    assert found.terms == ("lamp", "garden hose", "Nail")
    for one in found.systems:
        table = tables[one.system]
        assert one.entries == len(table.ids)
        for term in one.terms:
            if table.row(term.term) is None:
                assert term.neighbours == ()
                continue
            own = table.ids[term.term.lower()]
            expected = []
            for entry, row in table.ids.items():
                if row == own or entry in table.special:
                    continue
                left, right = table.vectors[own], table.vectors[row]
                expected.append((float(left @ right / np.sqrt((left @ left) * (right @ right))), entry))
            best = sorted(expected, reverse=True)[:4]
            assert [neighbour.entry for neighbour in term.neighbours] == [entry for _, entry in best]
            assert [neighbour.similarity for neighbour in term.neighbours] == pytest.approx(
                [value for value, _ in best]
            )
    assert found.systems[0].terms[1].neighbours
    assert not found.systems[1].terms[1].neighbours
    words = students["words"].encoder(0).model.get_input_embeddings().weight
    assert np.array_equal(tables["words"].vectors, words.detach().numpy())


def test_of_a_table_only_the_first_entries_are_neighbours_where_it_says_so():
    vectors = np.array([[1, 0], [0, 1], [1, 0.1], [1, 0.2]], dtype=np.float32)
    table = EmbeddingTable({"a": 0, "b": 1, "c": 2, "d": 3}, frozenset("b"), vectors, first=3)
    (found,) = neighbours(["d"], {"s": table}).systems
    assert (found.entries, found.candidates) == (4, 2)
    assert [one.entry for one in found.terms[0].neighbours] == ["c", "a"]
    assert table_of(bag_student()).first == FREQUENT


def test_frequent_terms_are_words_of_the_texts_that_every_vocabulary_has():
    table = EmbeddingTable(
        {"nail": 0, "the": 1, "lamp": 2, "ox": 3, "door": 4}, frozenset(), np.eye(5, dtype=np.float32)
    )
    other = EmbeddingTable({"nail": 0, "door": 1}, frozenset(), np.eye(2, dtype=np.float32))
    texts = ["the lamp lamp lamp", "the nail", "Nail, door", "the ox", "door"]
    assert frequent_terms(texts, [table]) == ("door", "nail", "lamp")
    assert frequent_terms(texts, [table, other]) == ("door", "nail")
    assert frequent_terms(texts, [table, other], 1) == ("door",)
    foreign = EmbeddingTable({"porte": 0}, frozenset(), np.eye(1, dtype=np.float32))
    assert frequent_terms(texts, [table, foreign], 2) == ("door", "nail")


def test_a_term_that_no_student_has_is_refused():
    tables = {"bag": table_of(bag_student())}
    check_terms(["lamp"], tables)
    with pytest.raises(InputError, match=r"the term 'lampp' is in no student's vocabulary.*Did you mean 'lamp"):
        check_terms(["lampp"], tables)


def test_hashed_ngrams_and_tri_letters_have_no_names(base):
    values = {"encoder": {"dim": 8, "hash_buckets": 50}, "head": {"widths": [8]}}
    assert (
        table_of(make_student("bert2dnn", parse_config("bert2dnn", values)))
        == "its n-grams are hashed and have no names"
    )
    letters = {"encoder": {"base": str(base), "tokens": "tri-letter", "max_lengths": [16]}}
    student = make_student("twinbert-cos", parse_config("twinbert-cos", letters), [WORDS * 20, WORDS * 20])
    assert "three letters" in table_of(student)


def test_cases_lay_a_group_open():
    inputs = sample_inputs()
    name = inputs.group_names[3]
    found = cases(inputs, [name])
    assert found.systems == ("big", "small", "two", "alike")
    (case,) = found.cases
    rows = np.flatnonzero(inputs.groups == 3)
    assert (case.group, case.left_out, len(case.rows)) == (name, 0, len(rows))
    assert case.texts == {"query": inputs.tuple_set.texts(0)[inputs.tuples.index[rows[0], 0]]}
    by_teacher = sorted(rows, key=lambda row: -inputs.logits["big"][row, 0])
    for row, shown in zip(by_teacher, case.rows, strict=True):
        assert shown.texts == {"product": inputs.tuple_set.texts(1)[inputs.tuples.index[row, 1]]}
        assert shown.label == pytest.approx(1 + 3 * inputs.labels[row], abs=1e-4)
        for system, score in zip(found.systems, shown.scores, strict=True):
            logit = inputs.logits[system][row, 0]
            assert score.rank == 1 + sum(inputs.logits[system][other, 0] > logit for other in rows)
            assert score.probability == (None if system == "alike" else pytest.approx(1 / (1 + np.exp(-logit))))


def test_cases_are_drawn_by_seed_from_groups_whose_labels_differ():
    inputs = sample_inputs("binary", queries=120)
    found = cases(inputs, seed=3)
    assert len(found.cases) == 5
    assert found == cases(inputs, seed=3)
    assert found != cases(inputs, seed=4)
    assert all(len({row.label for row in one.rows}) > 1 for one in found.cases)


def test_an_item_that_is_alone_is_shown_whole():
    inputs = sample_inputs("binary", queries=60, per_query=1)
    case = cases(inputs, seed=1).cases[0]
    assert case.texts == {}
    assert list(case.rows[0].texts) == ["query", "product"]


def test_a_large_case_says_how_much_it_leaves_out():
    inputs = sample_inputs(queries=6, per_query=30)
    case = cases(inputs, inputs.group_names[:1]).cases[0]
    assert len(case.rows) == MOST_ROWS
    assert case.left_out == int((inputs.groups == 0).sum()) - MOST_ROWS


def test_a_case_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"the split has no labelled group 'q x'.*Did you mean 'q"):
        cases(sample_inputs(), ["q x"])


def test_long_texts_are_cut_for_tables():
    assert shown_text("a \n b") == "a b"
    assert len(shown_text("word " * 200)) <= SHOWN_CHARACTERS
    assert shown_text("word " * 200).endswith("…")
