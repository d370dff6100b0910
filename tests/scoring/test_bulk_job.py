"""Bulk jobs: the same pairs whatever the shards, the tiles and the engine; what is wrong is said, with file and row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulk_samples import Sample, contents, make_sample, read_result, write_pairs
from pairstill.errors import ArtefactError, InputError
from pairstill.jobs import LocalEngine, ProcessEngine, Shard
from pairstill.scoring.bulk.job import run_bulk
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.merge import MergeTop
from pairstill.scoring.bulk.plan import plan_bulk
from pairstill.scoring.bulk.sizes import plan_sizes
from pairstill.scoring.encode import EncodeSettings, encode_store


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairstill.scoring.bulk.precision.MEASURE_S", 0.0)


@pytest.fixture(scope="module")
def sample(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(base, tmp_path_factory.mktemp("bulk"))


@pytest.fixture(scope="module")
def three(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(base, tmp_path_factory.mktemp("three"), "three", (7, 11, 5))


def best_of(sample: Sample, truth: np.ndarray, count: int) -> list[tuple[str, str]]:
    """By a plain sort, of scores rounded as little as float32 does between two graphs."""
    queries, items = sample.ids["query"], sample.ids["item"]
    found = []
    for row, query in enumerate(queries):
        best = sorted((-round(float(truth[row, place]), 4), items[place]) for place in range(len(items)))[:count]
        found += [(query, one) for _, one in best]
    return found


def pairs_of(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["query"].to_pylist(), table["item"].to_pylist(), strict=True))


def test_a_cross_product_keeps_the_best_of_each_left_item_with_ties_by_id(sample: Sample, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    plan = plan_bulk(sample.job(tmp_path / "job", keep=Keep.of(top=6), pairs_per_shard=100))
    assert len(plan.shards) > 3
    result = run_bulk(plan, progress=lambda done, total: calls.append((done, total)))
    table = read_result(tmp_path / "job")
    assert pairs_of(table) == best_of(sample, sample.truth(), 6)
    truth = sample.truth()
    places = [(sample.ids["query"].index(left), sample.ids["item"].index(right)) for left, right in pairs_of(table)]
    assert np.allclose(table["score"].to_numpy(), [truth[place] for place in places], atol=1e-4)
    assert (calls[0], calls[-1]) == ((0, 481), (481, 481))
    assert result.summary["pairs"] == 481
    assert result.summary["head_pairs_per_s"] > 0
    assert result.summary["memory"]["bound_bytes_per_worker"] > result.summary["memory"]["anonymous_bytes"] / 2
    assert not (tmp_path / "job" / "partial").exists()
    # A finished job is only read.
    before = contents(tmp_path / "job")
    run_bulk(plan_bulk(sample.job(tmp_path / "job", keep=Keep.of(top=6), pairs_per_shard=100)))
    assert contents(tmp_path / "job") == before


@given(shard=st.integers(25, 600), count=st.integers(1, 40), tile=st.tuples(st.integers(1, 15), st.integers(1, 40)))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_and_tiles_change_nothing(
    sample: Sample, tmp_path: Path, shard: int, count: int, tile: tuple[int, int]
) -> None:
    from dataclasses import replace

    shutil.rmtree(tmp_path / "job", ignore_errors=True)
    for out in ("reference", "job"):
        if out == "reference" and (tmp_path / f"reference-{count}").exists():
            continue
        plan = plan_bulk(
            sample.job(tmp_path / out, keep=Keep.of(top=count), pairs_per_shard=shard if out == "job" else None)
        )
        assert plan.cross is not None
        if out == "job":
            plan = replace(plan, settings=replace(plan.settings, limits=(plan.cross.left_block, tile[1])))
        run_bulk(plan)
        if out == "reference":
            (tmp_path / out).rename(tmp_path / f"reference-{count}")
    assert read_result(tmp_path / "job").equals(read_result(tmp_path / f"reference-{count}"))


def test_pairs_keep_the_input_s_order_whatever_the_shards(sample: Sample, tmp_path: Path) -> None:
    write_pairs(sample, tmp_path / "pairs" / "a.parquet", 300, 0, row_group_size=70)
    write_pairs(sample, tmp_path / "pairs" / "b.parquet", 41, 1)
    given_ids = pa.concat_tables([pq.read_table(tmp_path / "pairs" / one) for one in ("a.parquet", "b.parquet")])
    results = []
    for shard in (None, 64, 23):
        table = sample.run(tmp_path / f"job-{shard}", pairs=str(tmp_path / "pairs"), pairs_per_shard=shard)
        assert pairs_of(table) == pairs_of(given_ids)
        results.append(table)
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])
    truth = sample.truth()
    expected = [truth[sample.ids["query"].index(q), sample.ids["item"].index(i)] for q, i in pairs_of(given_ids)]
    assert np.allclose(results[0]["score"].to_numpy(), expected, atol=1e-4)


def test_the_best_of_pairs_are_those_of_a_plain_sort_and_a_repeated_pair_counts_once(
    sample: Sample, tmp_path: Path
) -> None:
    places = write_pairs(sample, tmp_path / "pairs.parquet", 400)
    everything = sample.run(tmp_path / "all", pairs=str(tmp_path / "pairs.parquet"))
    scores = dict(zip(pairs_of(everything), everything["score"].to_pylist(), strict=True))
    assert len(scores) < len(places)
    expected = []
    for query in sample.ids["query"]:
        mine = sorted((-score, item) for (left, item), score in scores.items() if left == query)
        expected += [(query, item, -score) for score, item in mine[:4]]
    for shard in (None, 50):
        table = sample.run(
            tmp_path / f"top-{shard}", pairs=str(tmp_path / "pairs.parquet"), keep=Keep.of(top=4), pairs_per_shard=shard
        )
        assert list(zip(*(table[name].to_pylist() for name in ("query", "item", "score")), strict=True)) == expected


def test_above_keeps_what_scores_higher(sample: Sample, tmp_path: Path) -> None:
    write_pairs(sample, tmp_path / "pairs.parquet", 200)
    everything = sample.run(tmp_path / "all", pairs=str(tmp_path / "pairs.parquet"))
    threshold = float(np.median(everything["score"].to_numpy()))
    kept = sample.run(tmp_path / "above", pairs=str(tmp_path / "pairs.parquet"), keep=Keep.of(above=threshold))
    assert kept.equals(everything.filter(pa.array(everything["score"].to_numpy() > np.float32(threshold))))
    cross = sample.run(tmp_path / "cross", keep=Keep.of(above=threshold))
    all_cross = sample.run(tmp_path / "cross-all")
    assert all_cross.num_rows == 481
    assert cross.equals(all_cross.filter(pa.array(all_cross["score"].to_numpy() > np.float32(threshold))))


def test_groups_are_pairs(sample: Sample, tmp_path: Path) -> None:
    queries, items = sample.ids["query"], sample.ids["item"]
    groups = [items[:5], [], items[3:30], items[7:8]]
    table = pa.table({"q": queries[:4], "candidates": pa.array(groups, pa.list_(pa.string()))})
    pq.write_table(table, tmp_path / "groups.parquet")
    columns = {"query": "q", "item": "candidates"}
    found = sample.run(tmp_path / "job", pairs=str(tmp_path / "groups.parquet"), columns=columns, pairs_per_shard=6)
    assert pairs_of(found) == [(query, item) for query, group in zip(queries, groups, strict=False) for item in group]


def test_a_trec_run_gives_candidates(sample: Sample, tmp_path: Path) -> None:
    lines = [("query", 0, "item", 5), ("query", 0, "item", 2), ("query", 3, "item", 5)]
    text = "".join(f"{sample.ids[a][b]}\tQ0 {sample.ids[c][d]}  1 0.5 bm25\n" for a, b, c, d in lines)
    (tmp_path / "first.run").write_text(text + "\n")
    table = sample.run(tmp_path / "job", pairs=str(tmp_path / "first.run"))
    assert pairs_of(table) == [(sample.ids[a][b], sample.ids[c][d]) for a, b, c, d in lines]
    (tmp_path / "bad.run").write_text(text + "one two three\n")
    with pytest.raises(InputError, match=r"bad\.run, row 4: the line has 3 parts"):
        plan_bulk(sample.job(tmp_path / "other", pairs=str(tmp_path / "bad.run")))


def test_an_input_on_another_file_system(sample: Sample, tmp_path: Path) -> None:
    import fsspec

    write_pairs(sample, tmp_path / "pairs.parquet", 50)
    system = fsspec.filesystem("memory")
    system.pipe("/bulk/part.parquet", (tmp_path / "pairs.parquet").read_bytes())
    try:
        remote = sample.run(tmp_path / "remote", pairs="memory://bulk")
        assert remote.equals(sample.run(tmp_path / "near", pairs=f"file://{tmp_path}/pairs.parquet"))
    finally:
        system.rm("/bulk", recursive=True)


def test_three_fields_and_several_logits(three: Sample, tmp_path: Path) -> None:
    places = write_pairs(three, tmp_path / "tuples.parquet", 90)
    table = three.run(tmp_path / "job", pairs=str(tmp_path / "tuples.parquet"), memory_bytes=16 << 20)
    blocks = [three.student.encode(field, texts) for field, texts in enumerate(three.texts.values())]
    expected = three.student.score_representations(blocks, places)
    found = np.stack([table[f"score_{number}"].to_numpy() for number in range(3)], axis=1)
    assert np.allclose(found, expected, atol=1e-4)
    with pytest.raises(InputError, match=r"gives 3 logits.*--output from 0 to 2"):
        plan_bulk(three.job(tmp_path / "top", pairs=str(tmp_path / "tuples.parquet"), keep=Keep.of(top=2)))
    top = three.run(tmp_path / "top", pairs=str(tmp_path / "tuples.parquet"), keep=Keep.of(top=2), output=1)
    best = max(expected[places[:, 0] == 0][:, 1])
    assert top["query"][0].as_py() == three.ids["query"][0]
    assert abs(top["score"][0].as_py() - best) < 1e-4
    with pytest.raises(InputError, match="cross product of 3 stores"):
        plan_bulk(three.job(tmp_path / "cross"))


def test_a_student_without_a_fast_head(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path, "cross-encoder", (4, 6))
    table = sample.run(tmp_path / "job", keep=Keep.of(top=2))
    assert np.allclose(table["score"].to_numpy().reshape(4, 2), -np.sort(-sample.truth(), axis=1)[:, :2], atol=1e-4)
    with pytest.raises(InputError, match="no 8-bit form"):
        plan_bulk(sample.job(tmp_path / "int8", precision="int8"))
    with pytest.raises(InputError, match="no part that is prepared"):
        encode_store(sample.student, 0, ["a"], ["w1"], tmp_path / "p", "query", EncodeSettings(prepared=True))


def test_processes_give_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    write_pairs(sample, tmp_path / "pairs.parquet", 300)
    for out, engine in (("one", LocalEngine()), ("two", ProcessEngine(2))):
        more: dict[str, Any] = {"pairs": str(tmp_path / "pairs.parquet"), "keep": Keep.of(top=3), "pairs_per_shard": 60}
        sample.run(tmp_path / out, engine, **more)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_precisions_are_measured_and_said_and_int8_keeps_its_scales(sample: Sample, tmp_path: Path) -> None:
    plan = plan_bulk(sample.job(tmp_path / "auto", precision="auto"))
    said = plan.choice.said()
    assert "chosen by measurement" in said
    assert "float32" in said
    choice = plan_bulk(sample.job(tmp_path / "int8", precision="int8")).choice
    assert choice.calibration is not None
    assert 0.5 < choice.measured[-1].kendall_tau <= 1
    results = [sample.run(tmp_path / f"int8-{shard}", precision="int8", pairs_per_shard=shard) for shard in (None, 50)]
    left, right = (dict(zip(pairs_of(one), one["score"].to_pylist(), strict=True)) for one in results)
    assert left == right
    body = json.loads((tmp_path / "int8-50" / "summary.json").read_text())
    assert body["precision_choice"]["calibration"] == [list(one) for one in choice.calibration]
    assert json.loads((tmp_path / "int8-50" / "job.json").read_text())["settings"]["precision"]["chosen"] == "int8"


def test_what_was_chosen_holds_when_a_job_is_resumed(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan_bulk(sample.job(tmp_path / "job", precision="auto"))
    run_bulk(first)
    (tmp_path / "job" / "shard-00000.parquet").unlink()

    def never(*_: Any) -> None:
        raise AssertionError("it was measured again")

    monkeypatch.setattr("pairstill.scoring.bulk.plan.choose_precision", never)
    again = plan_bulk(sample.job(tmp_path / "job", precision="auto"))
    assert again.choice == first.choice
    run_bulk(again)
    assert (tmp_path / "job" / "shard-00000.parquet").exists()


def test_a_prepared_part_is_read_where_it_fits(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path / "sample", prepared=True)
    plan = plan_bulk(sample.job(tmp_path / "job"))
    assert plan.settings.scorer.use_prepared == (True, True)
    run_bulk(plan)
    plain = make_sample(base, tmp_path / "plain")
    assert read_result(tmp_path / "job").equals(plain.run(tmp_path / "plain-job"))
    other = plan_bulk(sample.job(tmp_path / "narrow", precision="bfloat16"))
    assert other.settings.scorer.use_prepared == (False, False)
    assert "another student or precision" in other.notes[0]


def test_rows_that_cannot_be_scored_stop_the_job_or_are_written_down(sample: Sample, tmp_path: Path) -> None:
    queries, items = sample.ids["query"], sample.ids["item"]
    columns = {"query": [queries[0], "nobody", queries[1], None], "item": [items[0], items[1], "nothing", items[2]]}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    path = str(tmp_path / "pairs.parquet")
    with pytest.raises(
        InputError, match=r"pairs\.parquet, row 2: the store of 'query' has no item 'nobody' \(so it is with 3 of"
    ):
        sample.run(tmp_path / "stop", pairs=path)
    table = sample.run(tmp_path / "skip", pairs=path, on_bad_row="skip")
    assert pairs_of(table) == [(queries[0], items[0])]
    skipped = pq.read_table(tmp_path / "skip" / "skipped.parquet").to_pylist()
    assert [(one["row"], one["reason"], one["item"]) for one in skipped] == [
        (2, "the store of 'query' has no item 'nobody'", items[1]),
        (3, "the store of 'item' has no item 'nothing'", "nothing"),
        (4, "the id of 'query' is missing", items[2]),
    ]
    assert json.loads((tmp_path / "skip" / "summary.json").read_text())["rows_skipped"] == 3


def test_a_job_that_stopped_at_a_bad_row_goes_on_without_it(sample: Sample, tmp_path: Path) -> None:
    good = write_pairs(sample, tmp_path / "pairs" / "0.parquet", 100)
    bad = {"query": ["nobody", sample.ids["query"][0]], "item": [sample.ids["item"][0]] * 2}
    pq.write_table(pa.table(bad), tmp_path / "pairs" / "1.parquet")
    job: dict[str, Any] = {"pairs": str(tmp_path / "pairs"), "pairs_per_shard": 50}
    with pytest.raises(InputError, match="Run the same command with --on-bad-row skip"):
        sample.run(tmp_path / "job", **job)
    first = tmp_path / "job" / "shard-00000.parquet"
    done = first.stat().st_mtime_ns
    assert sample.run(tmp_path / "job", **job, on_bad_row="skip").num_rows == len(good) + 1
    assert first.stat().st_mtime_ns == done
    # A shard that is done again brings its own skipped rows, and the others' stay.
    (tmp_path / "job" / "shard-00000.parquet").unlink()
    sample.run(tmp_path / "job", **job, on_bad_row="skip")
    assert pq.read_table(tmp_path / "job" / "skipped.parquet")["query"].to_pylist() == ["nobody"]


@pytest.mark.parametrize("keep", [Keep.of(), Keep.of(top=2)])
def test_a_store_that_is_edited_under_a_job_stops_it(base: Path, tmp_path: Path, keep: Keep) -> None:
    sample = make_sample(base, tmp_path)
    plan = plan_bulk(sample.job(tmp_path / "job", keep=keep))
    ids, texts = sample.ids["item"], sample.texts["item"]
    encode_store(sample.student, 1, [*ids, "new"], [*texts, "w3"], sample.stores["item"], "item")
    with pytest.raises(ArtefactError, match="the store was edited while a job that reads it is not finished"):
        run_bulk(plan)


def test_the_merge_refuses_a_store_that_was_edited(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path)
    settings = plan_bulk(sample.job(tmp_path / "job", keep=Keep.of(top=2))).settings
    encode_store(sample.student, 1, ["new"], ["w3"], sample.stores["item"], "item")
    merge = MergeTop(settings.scorer, settings.fields, 2, str(tmp_path), (), None)
    with pytest.raises(ArtefactError, match="the store was edited"):
        merge(Shard("shard-00000", 0, 1), tmp_path / "shard-00000.parquet")


def test_lists_of_different_lengths_are_bad_rows(three: Sample, tmp_path: Path) -> None:
    one, two, other = three.ids.values()
    columns = {"query": one[:2], "item": [two[:2], two[:3]], "context": [other[:2], other[:2]]}
    pq.write_table(pa.table(columns), tmp_path / "groups.parquet")
    with pytest.raises(InputError, match="row 2: a list is missing, or two lists differ in length"):
        three.run(tmp_path / "stop", pairs=str(tmp_path / "groups.parquet"))
    table = three.run(tmp_path / "skip", pairs=str(tmp_path / "groups.parquet"), on_bad_row="skip")
    assert table["context"].to_pylist() == other[:2]


def test_a_corrupt_file_in_the_middle(sample: Sample, tmp_path: Path) -> None:
    for number in range(3):
        write_pairs(
            sample, tmp_path / "pairs" / f"{number}.parquet", 100, number, compression="zstd", row_group_size=50
        )
    whole = pq.read_table(tmp_path / "pairs" / "0.parquet")
    path = tmp_path / "pairs" / "1.parquet"
    good = path.read_bytes()
    # The second row group's first column is damaged; the footer is whole.
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    path.write_bytes(good[: start + 20] + b"\xff" * 60 + good[start + 80 :])
    with pytest.raises(InputError, match=r"1\.parquet, row 51: the rows cannot be read: .* \(rows 51 to 100\)"):
        sample.run(tmp_path / "stop", pairs=str(tmp_path / "pairs"), pairs_per_shard=50)
    # What was done is kept, and the job goes on when the file is mended.
    assert len(list((tmp_path / "stop" / "receipts").iterdir())) == 3
    table = sample.run(tmp_path / "skip", pairs=str(tmp_path / "pairs"), on_bad_row="skip")
    assert table.num_rows == 250
    skipped = pq.read_table(tmp_path / "skip" / "skipped.parquet").to_pylist()
    assert [(Path(one["file"]).name, one["row"], one["rows"]) for one in skipped] == [("1.parquet", 51, 50)]
    # Without its footer nothing of the file can be read.
    path.write_bytes(good[:-30])
    with pytest.raises(InputError, match=r"1\.parquet: the file cannot be read as Parquet"):
        plan_bulk(sample.job(tmp_path / "cut", pairs=str(tmp_path / "pairs")))
    table = sample.run(tmp_path / "cut", pairs=str(tmp_path / "pairs"), on_bad_row="skip")
    assert pairs_of(table)[:100] == pairs_of(whole)
    assert table.num_rows == 200
    skipped = pq.read_table(tmp_path / "cut" / "skipped.parquet").to_pylist()
    assert [(Path(one["file"]).name, one["row"]) for one in skipped] == [("1.parquet", None)]


def test_stores_that_do_not_belong_are_refused(sample: Sample, base: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    swapped = {"item": sample.stores["item"], "query": sample.stores["query"]}
    with pytest.raises(ArtefactError, match=r"made for this student's field 2.*in the order"):
        plan_bulk(replace(sample.job(tmp_path / "job"), stores=swapped))
    with pytest.raises(InputError, match=r"1 store is given \(query\). Expected: 2"):
        plan_bulk(replace(sample.job(tmp_path / "job"), stores={"query": sample.stores["query"]}))
    other = make_sample(base, tmp_path / "other", "cross-encoder", (3, 3))
    with pytest.raises(ArtefactError, match="made by another student"):
        plan_bulk(replace(sample.job(tmp_path / "job"), stores=other.stores))


def test_a_store_that_changed_since_the_job_began_is_refused(base: Path, tmp_path: Path) -> None:
    sample = make_sample(base, tmp_path)
    sample.run(tmp_path / "job", keep=Keep.of(top=2))
    encode_store(
        sample.student,
        0,
        [*sample.ids["query"], "new"],
        [*sample.texts["query"], "w3"],
        sample.stores["query"],
        "query",
    )
    with pytest.raises(ArtefactError, match="started with other settings: stores was"):
        sample.run(tmp_path / "job", keep=Keep.of(top=2))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pairs": "no.parquet"}, "the file does not exist"),
        ({"pairs": "nosuch://x"}, "cannot be used"),
        ({"pairs": "PAIRS", "columns": {"item": "doc"}}, "the file has no column 'doc'.*--column item=NAME"),
        ({"pairs": "PAIRS", "columns": {"product": "item"}}, "names the field 'product'"),
        ({"pairs": "NUMBERS"}, "the column holds integer ids. Expected: strings"),
        ({"pairs": "LISTS"}, "the first field's column holds lists"),
        ({"pairs": "STRANGERS"}, "none has ids that the stores know"),
        ({"pairs": "EMPTY"}, "the folder has no Parquet files"),
        ({"columns": {"item": "doc"}}, "--column and --trec are about an input"),
        ({"precision": "float8"}, "the precision 'float8' is unknown"),
        ({"memory_bytes": 5}, "memory for prepared items is 5 bytes"),
        ({"pairs_per_shard": 0}, "pairs of a shard is 0"),
        ({"output": 3}, "the output 3 is asked for"),
        ({"on_bad_row": "no"}, "'no' is no way"),
    ],
)
def test_wrong_settings_are_said(sample: Sample, tmp_path: Path, more: dict[str, Any], message: str) -> None:
    tables = {
        "NUMBERS": {"query": [1], "item": [2]}, "LISTS": {"query": [["a"]], "item": [["b"]]},
        "STRANGERS": {"query": ["x"], "item": ["y"]},
    }  # fmt: skip
    name = more.get("pairs")
    if name == "PAIRS":
        write_pairs(sample, tmp_path / "PAIRS", 3)
    elif name == "EMPTY":
        (tmp_path / "EMPTY").mkdir()
    elif name in tables:
        pq.write_table(pa.table(tables[str(name)]), tmp_path / str(name))
    if name and name.isupper():
        more = {**more, "pairs": str(tmp_path / name)}
    with pytest.raises(InputError, match=message):
        plan_bulk(sample.job(tmp_path / "job", **more))


def test_what_is_kept_is_one_thing() -> None:
    with pytest.raises(InputError, match="--top and --above are both given"):
        Keep.of(top=3, above=0.5)
    with pytest.raises(InputError, match="the number to keep is 0"):
        Keep.of(top=0)
    with pytest.raises(InputError, match="the threshold is nan"):
        Keep.of(above=float("nan"))


def test_the_memory_bound_grows_with_neither_pairs_nor_stores() -> None:
    bounds = {
        plan_sizes(pairs, [9000.0, 17000.0], [3000.0, 9000.0], 1, 9e6, 256 << 20, None, False).worker_bytes
        for pairs in (10**4, 10**8, 10**12)
    }
    assert len(bounds) == 1
