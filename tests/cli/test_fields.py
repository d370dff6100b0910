"""Fields of numbers and images through the real command line: describe, distill, evaluate, encode, score, search."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.store import RepresentationStore
from pairstill.students import Student, load_student
from pairstill.tuples import TupleSet
from tiny import noisy_image

CHEAP, DEAR = "w1", "w2"


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, (done.exception, done.output)
    return done.stdout


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(done.exception, PairstillError), (done.exception, done.output)
    return str(done.exception)


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries that ask for something cheap or dear, and a price, a weight and noise of every row's own item."""
    folder = tmp_path_factory.mktemp("prices")
    random = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "id", "price", "weight", "noise", "label", "split"])
        for row in range(1000):
            dear = random.integers(2)
            words = random.permutation([CHEAP if not dear else DEAR, *random.choice(["w10", "w11", "w12"], 2)])
            numbers = [np.exp(random.normal(4, 1)), random.normal(500, 100), random.normal()]
            label = int((numbers[0] > np.exp(4)) == dear)
            split = "train" if row < 700 else "valid" if row < 800 else "test"
            writer.writerow([" ".join(words), f"item{row}", *(f"{one:.5g}" for one in numbers), label, split])
    (folder / "rows.yaml").write_text(
        "tuples: rows.csv\nfields:\n  query: query\n  item: {numeric: [price, weight, noise], id: id}\nlabel: label\n"
    )
    printed = said("describe", folder / "rows.yaml", "--out", folder / "set")
    assert "field item = price + weight + noise (3 numbers): collection 'item', 1,000 items" in printed
    assert "Numbers, over rows" in printed
    assert "noise" in printed
    return folder


@pytest.fixture(scope="module")
def pricer(prices: Path, base: Path) -> Path:
    """DE-FFNN of queries and numbers, trained on labels."""
    out = prices / "de-ffnn"
    said(
        "distill", "--student", "de-ffnn", "--tuples", prices / "set", "--out", out, "--base", base, "--hard-weight", 1, "--max-length", 16,
        "--pairs", 1024, "--stage1-pairs", 4096, "--learning-rate", 1e-3, "--new-learning-rate", 3e-3, "--stage1-learning-rate", 3e-3,
        "--set", "inputs.numeric.widths=32", "--threads", 1, "--looks", 4,
    )  # fmt: skip
    return out


def test_a_student_learns_what_numbers_mean(prices: Path, pricer: Path) -> None:
    student = load_student(pricer)
    assert student.kinds == ("text", "numeric")
    assert student.config.inputs.numeric.features == (3,)
    assert not student.config.similarity_skip
    assert "item: numeric" in (student.card or "")
    out = prices / "report"
    said("evaluate", "--tuples", prices / "set", "--student", f"s={pricer}", "--out", out, "--no-cost", "--threads", 1)
    results = json.loads((out / "results.json").read_text())
    assert (
        "BM25, word overlap and cosine floors are left out: they compare texts, and 'item' (numeric) is none."
        in json.dumps(results)
    )
    said(
        "evaluate", "--tuples", prices / "set", "--student", f"s={pricer}", "--out", out, "--no-cost", "--threads", 1, "--analyses",
        "--analysis", "cases",
    )  # fmt: skip
    cases = json.loads((out / "analyses.json").read_text())["cases"]["cases"]
    assert {{**case["texts"], **row["texts"]}["item"][:4] for case in cases for row in case["rows"]} == {"item"}
    logits = student.score_tuples(tuple_set := TupleSet.load(prices / "set"), rows := tuple_set.split("test"))
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(rows.labels, logits[:, 0]) > 0.9


def encoded(folder: Path, student: Path, field: str) -> str:
    return said(
        "encode", "--student", student, "--tuples", folder / "set", "--field", field, "--out", folder / field, "--precision", "float32",
        "--threads", 1,
    )  # fmt: skip


def stored_scores(folder: Path, student: Student, fields: Sequence[str], rows: int) -> np.ndarray:
    """Logits of the first rows of the tuple set, from the stores of its fields."""
    tuple_set = TupleSet.load(folder / "set")
    sizes = [len(tuple_set.collection_of(place)) for place in range(len(fields))]
    stores = [
        RepresentationStore.open(folder / one).gather(np.arange(size)) for one, size in zip(fields, sizes, strict=True)
    ]
    return student.score_representations(stores, tuple_set.index[:rows])[:, 0]


def test_numbers_are_stored_and_given_one_by_one(prices: Path, pricer: Path) -> None:
    for field in ("query", "item"):
        encoded(prices, pricer, field)
    assert "1,000 unchanged" in encoded(prices, pricer, "item")
    tuple_set, student = TupleSet.load(prices / "set"), load_student(pricer)
    pairs = [(tuple_set.values(0)[query], tuple_set.values(1)[item]) for query, item in tuple_set.index[:50]]
    given = np.asarray(student.predict(pairs, activation_fn=lambda logits: logits))
    np.testing.assert_allclose(stored_scores(prices, student, ("query", "item"), 50), given, atol=1e-4)


@pytest.mark.soak
def test_bulk_jobs_score_numbers(prices: Path, pricer: Path) -> None:
    for field in ("query", "item"):
        encoded(prices, pricer, field)
    table = pq.read_table(prices / "set" / "tuples.parquet").slice(0, 50)
    pq.write_table(table.select(["query", "item"]), prices / "pairs.parquet")
    said(
        "score", "--student", pricer, "--store", f"query={prices / 'query'}", "--store", f"item={prices / 'item'}", "--pairs",
        prices / "pairs.parquet", "--out", prices / "scores", "--precision", "float32", "--workers", 1,
    )  # fmt: skip
    shards = sorted((prices / "scores").glob("**/shard-*.parquet"))
    scored = np.concatenate([pq.read_table(one)["score"].to_numpy() for one in shards])
    np.testing.assert_allclose(scored, stored_scores(prices, load_student(pricer), ("query", "item"), 50), atol=1e-4)


def test_new_items_come_as_a_tuple_set_of_one_field(prices: Path, pricer: Path) -> None:
    (prices / "new.csv").write_text("id,price,weight,noise\na,10,500,0\nb,1000,500,0\n")
    (prices / "new.yaml").write_text(
        "tuples: new.csv\nfields: {item: {numeric: [price, weight, noise], id: id}}\nsplits: {all: transfer}\n"
    )
    said("describe", prices / "new.yaml", "--out", prices / "new")
    encode = (
        "encode",
        "--student",
        pricer,
        "--tuples",
        prices / "new",
        "--field",
        "item",
        "--out",
        prices / "new-store",
    )
    assert "Expected: text, which this de-ffnn reads as field 1" in refused(*encode)
    assert "2 added" in said(*encode, "--position", 2)


@pytest.mark.parametrize("name", ["de-cos", "dipair-ffnn", "dipair-tsf"])
def test_every_dual_encoder_trains_on_numbers(prices: Path, base: Path, name: str) -> None:
    out = prices / name
    keep = () if name == "de-cos" else ("--set", "keep=3,2", "--set", "projection=8")
    said(
        "distill", "--student", name, "--tuples", prices / "set", "--out", out, "--base", base, "--hard-weight", 1, "--max-length", 16,
        "--pairs", 512, "--stage1-pairs", 512, "--threads", 1, "--looks", 1, *keep,
    )  # fmt: skip
    assert load_student(out).kinds == ("text", "numeric")
    if name != "de-cos":
        return
    said("encode", "--student", out, "--tuples", prices / "set", "--field", "item", "--out", prices / "cos-items")
    printed = said("search", "--student", out, "--store", prices / "cos-items", "--tuples", prices / "set", "--field", "query", "--split", "test", "--top", 5, "--out", prices / "run")  # fmt: skip
    assert "1,000 items" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--student", "cross-encoder", "--hard-weight", 1], "a cross-encoder reads texts alone, and the field 'item' is of kind numeric. Expected: one of de-cos, de-ffnn, dipair-ffnn, dipair-tsf"),
        (["distill", "--student", "bert2dnn", "--hard-weight", 1], "a bert2dnn reads texts alone"),
        (["distill", "--student", "de-ffnn", "--hard-weight", 1, "--set", "similarity_skip=true"], "Set similarity_skip=false"),
        (["distill", "--student", "de-ffnn", "--hard-weight", 1, "--set", "inputs.numeric.features=[2]"], "item 1 is"),
        (["teach"], "the field 'item' is of kind numeric. Expected: text, which this cross-encoder reads as field 2"),
        (["annotate"], "the field 'item' is of kind numeric. Expected: text"),
        (["mine"], "the field 'item' is of kind numeric. Expected: text"),
    ],
)  # fmt: skip
def test_what_reads_texts_alone_says_so(
    prices: Path, base: Path, tmp_path: Path, arguments: list[object], message: str
) -> None:
    verb, *rest = arguments
    common: list[object] = ["--tuples", prices / "set", "--out", tmp_path / "out", "--threads", 1]
    if verb == "annotate":
        from pairstill.students import make_student
        from pairstill.students.persistence import parse_config

        values = {"encoder": {"base": str(base), "max_lengths": [20]}}
        make_student("cross-encoder", parse_config("cross-encoder", values)).save_pretrained(tmp_path / "teacher")
        rest = ["--teacher", tmp_path / "teacher", "--split", "test"]
    elif verb != "mine":
        rest += ["--base", base]
    assert message in refused(verb, *rest, *common)


def test_a_student_of_texts_does_not_score_numbers(
    prices: Path, base: Path, tuple_set: TupleSet, tmp_path: Path
) -> None:
    from pairstill.students import make_student
    from pairstill.students.persistence import parse_config

    make_student(
        "de-cos", parse_config("de-cos", {"encoder": {"base": str(base), "max_lengths": [16]}})
    ).save_pretrained(tmp_path / "s")
    message = "the field 'item' is of kind numeric. Expected: text, which this de-cos reads as field 2"
    assert message in refused("evaluate", "--tuples", prices / "set", "--student", tmp_path / "s", "--out", tmp_path / "e", "--no-cost", "--threads", 1)  # fmt: skip
    assert message in refused("encode", "--tuples", prices / "set", "--student", tmp_path / "s", "--field", "item", "--out", tmp_path / "store")  # fmt: skip


@pytest.mark.parametrize("kind", ["onnx", "sentence-transformers"])
def test_exports_are_of_texts_alone(pricer: Path, tmp_path: Path, kind: str) -> None:
    message = refused("export", "--student", pricer, "--out", tmp_path / "out", "--format", kind)
    assert "the student reads text and numeric. Expected: a student of texts" in message
    assert not (tmp_path / "out").exists()


def test_imported_scores_are_a_teacher_of_numbers(prices: Path, base: Path) -> None:
    rows = pq.read_table(prices / "set" / "tuples.parquet").to_pylist()
    with (prices / "llm.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "score"])
        writer.writerows([number, 2.0 if row["label"] else -2.0] for number, row in enumerate(rows))
    said(
        "annotate",
        "--import",
        prices / "llm.csv",
        "--tuples",
        prices / "set",
        "--kind",
        "logit",
        "--out",
        prices / "llm",
    )
    said(
        "distill", "--student", "de-ffnn", "--tuples", prices / "set", "--scores", prices / "llm", "--out", prices / "taught", "--base", base,
        "--max-length", 16, "--pairs", 512, "--stage1-pairs", 512, "--threads", 1, "--looks", 1,
    )  # fmt: skip
    assert "llm.csv" in (prices / "taught" / "README.md").read_text()
    # A student that was trained on numbers is an assistant: the teacher of a smaller one.
    said("annotate", "--teacher", prices / "taught", "--tuples", prices / "set", "--split", "test", "--out", prices / "assistant", "--threads", 1)  # fmt: skip


COLORS = {"w1": (220, 30, 30), "w2": (30, 220, 30), "w3": (30, 30, 220)}


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words for colors, and pictures of one color and noise: one a row, of any size."""
    folder = tmp_path_factory.mktemp("colors")
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "picture", "label", "split"])
        for row in range(500):
            asked, shown = (str(one) for one in random.choice(list(COLORS), 2, p=[0.4, 0.3, 0.3]))
            ending = "png" if row % 2 else "jpg"
            size = tuple(int(one) for one in random.integers(8, 40, 2))
            noisy_image(COLORS[shown], row, (size[0], size[1])).save(folder / "pictures" / f"{row}.{ending}")
            words = random.permutation([asked, *random.choice(["w10", "w11"], 2)])
            split = "train" if row < 300 else "valid" if row < 400 else "test"
            writer.writerow([" ".join(words), f"pictures/{row}.{ending}", int(asked == shown), split])
    (folder / "rows.yaml").write_text(
        "tuples: rows.csv\nfields: {query: query, picture: {image: picture}}\nlabel: label\n"
    )
    printed = said("describe", folder / "rows.yaml", "--out", folder / "set")
    assert "field picture = picture (images): collection 'picture', 500 items" in printed
    assert "Images, over rows" in printed
    return folder


@pytest.fixture(scope="module")
def painter(colors: Path, base: Path, image_base: Path) -> Path:
    """DE-Cos of words and pictures, trained on labels."""
    out = colors / "painter"
    said(
        "distill", "--student", "de-cos", "--tuples", colors / "set", "--out", out, "--base", base, "--set", f"inputs.image.base={image_base}",
        "--hard-weight", 1, "--max-length", 16, "--pairs", 4096, "--stage1-pairs", 4096, "--learning-rate", 1e-3, "--new-learning-rate", 3e-3,
        "--stage1-learning-rate", 3e-3, "--threads", 1, "--looks", 4,
    )  # fmt: skip
    return out


def test_a_student_learns_what_words_look_like(colors: Path, painter: Path) -> None:
    said("evaluate", "--tuples", colors / "set", "--student", f"s={painter}", "--out", colors / "report", "--bert-base", "none", "--cost-seconds", 1, "--threads", 1)  # fmt: skip
    assert "they compare texts, and 'picture' (image) is none" in (colors / "report" / "results.json").read_text()
    tuple_set = TupleSet.load(colors / "set")
    rows = tuple_set.split("test")
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(rows.labels, load_student(painter).score_tuples(tuple_set, rows)[:, 0]) > 0.9


def test_pictures_are_stored_and_given_one_by_one(colors: Path, painter: Path) -> None:
    for field in ("query", "picture"):
        encoded(colors, painter, field)
    assert "500 unchanged" in encoded(colors, painter, "picture")
    student = load_student(painter)
    with (colors / "rows.csv").open() as file:
        pairs = [(one["query"], colors / one["picture"]) for one in csv.DictReader(file)][:20]
    given = np.asarray(student.predict(pairs, activation_fn=lambda logits: logits))
    np.testing.assert_allclose(stored_scores(colors, student, ("query", "picture"), 20), given, atol=1e-4)


def test_pictures_on_both_sides(colors: Path, image_base: Path) -> None:
    (colors / "both.yaml").write_text(
        "tuples: both.csv\nfields:\n  left: {image: left, collection: pictures}\n  right: {image: right, collection: pictures}\nlabel: label\n"
    )
    with (colors / "both.csv").open("w", newline="") as file, (colors / "rows.csv").open() as rows:
        names = [one["picture"] for one in csv.DictReader(rows)]
        writer = csv.writer(file)
        writer.writerow(["left", "right", "label"])
        writer.writerows([names[k], names[(7 * k) % 60], k % 2] for k in range(120))
    said("describe", colors / "both.yaml", "--out", colors / "both")
    for name, settings in (("de-cos", ()), ("dipair-tsf", ("--set", "keep=2,3", "--set", "projection=8"))):
        said(
            "distill", "--student", name, "--tuples", colors / "both", "--out", colors / name, "--set", f"inputs.image.base={image_base}", "--hard-weight", 1,
            "--pairs", 256, "--stage1-pairs", 256, "--threads", 1, "--looks", 1, *settings,
        )  # fmt: skip
    student = load_student(colors / "de-cos")
    assert student.kinds == ("image", "image")
    said(
        "encode",
        "--student",
        colors / "de-cos",
        "--tuples",
        colors / "both",
        "--field",
        "right",
        "--out",
        colors / "all",
    )
    printed = said("search", "--student", colors / "de-cos", "--store", colors / "all", "--tuples", colors / "both", "--field", "left", "--top", 3, "--out", colors / "run")  # fmt: skip
    assert "items" in printed


def test_mistakes_with_pictures(colors: Path, base: Path, image_base: Path, tmp_path: Path) -> None:
    distill = (
        "distill",
        "--tuples",
        colors / "set",
        "--out",
        tmp_path / "out",
        "--base",
        base,
        "--hard-weight",
        1,
        "--threads",
        1,
    )
    assert "no encoder of images is named. Set inputs.image.base" in refused(*distill, "--student", "de-cos")
    assert "cannot be loaded" in refused(*distill, "--student", "de-cos", "--set", f"inputs.image.base={base}")
    kept = refused(
        *distill, "--student", "dipair-tsf", "--set", f"inputs.image.base={image_base}", "--set", "keep=4,18"
    )
    assert "of the 17 vectors of an image (field 2) 18 are to be kept. Expected: keep of at most 17" in kept
    for student in ("prettr", "colbert", "tk", "twinbert-cos", "bert-dot", "poly-encoder"):
        assert f"a {student} reads texts alone, and the field 'picture' is of kind image" in refused(
            *distill, "--student", student
        )
    (tmp_path / "rows.csv").write_text("query,picture,label\nred,broken.png,1\n")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but not further")
    (tmp_path / "rows.yaml").write_text(
        "tuples: rows.csv\nfields: {query: query, picture: {image: picture}}\nlabel: label\n"
    )
    message = refused("describe", tmp_path / "rows.yaml", "--out", tmp_path / "set")
    assert "rows.csv, row 2, column 'picture': the image 'broken.png' does not decode" in message
    assert not (tmp_path / "set").exists()
