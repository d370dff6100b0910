import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pairstill.report.html import to_html
from pairstill.report.markdown import to_markdown
from pairstill.report.outputs import file_name
from pairstill.report.svg import Box, place_labels, text_width
from pairstill.report.table_files import escape_latex, to_csv, to_latex
from pairstill.report.tables import cost_table, count_text, quality_table, times_text
from pairstill.report.terminal import renderables
from pairstill.report.trade_off import frontier, trade_off_svg
from report_samples import Page, comparison


@pytest.mark.parametrize("kind", ["graded", "binary", "classes"])
@pytest.mark.parametrize("costs", [True, False])
def test_the_page_is_whole_escaped_and_fetches_nothing(kind, costs):
    source = to_html([comparison(kind, "Nails <script>alert(1)</script>", costs=costs)])
    page = Page()
    page.feed(source)
    assert page.open == []
    assert page.references == []
    assert not re.search(r"https?:|url\(|@import|//[a-z]", source)
    words = " ".join(page.words)
    assert "tsf & <co>" in words
    assert "Nails <script>" in words
    assert "A warning." in words
    assert ("Quality against speed" in words) == costs
    assert "prefers-color-scheme: dark" in source
    assert "width=device-width" in source


def test_several_comparisons_share_a_page():
    source = to_html([comparison(title="first"), comparison("binary", title="second")])
    assert source.count('<section class="comparison">') == 2
    assert "<title>Evaluations</title>" in source


def test_csv_has_a_line_per_split_and_system():
    one = comparison()
    rows = list(csv.DictReader(io.StringIO(to_csv(one))))
    assert len(rows) == 2 * len(one.systems)
    first = next(row for row in rows if row["system"] == "de_cos" and row["split"] == "test")
    found = one.main.system("de_cos")
    assert float(first["pearson"]) == found.metrics["pearson"].value
    assert float(first["pearson deviation"]) == found.metrics["pearson"].deviation
    assert float(first["speed_up_teacher"]) == 2000.0
    assert (first["speed_up_bert_base_float32"], float(first["speed_up_bert_base_fastest"])) == ("", 200_000.0)
    constant = next(row for row in rows if row["system"] == "constant")
    assert constant["pearson"] == ""


def test_markdown_has_every_table_and_hides_nothing_in_markup():
    source = to_markdown(comparison(title="50% | of *R&D*_1"))
    assert source.startswith(r"## 50% \| of \*R&D\*\_1")
    tables = [part for part in source.split("\n\n") if part.startswith("|")]
    for lines in (part.splitlines() for part in tables):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1
    one = comparison()
    for split in one.splits:
        for row in quality_table(one, split).rows:
            assert "| " + " | ".join(re.sub(r"([\\|*_<`])", r"\\\1", cell) for cell in row) + " |" in to_markdown(one)
    assert "Every timing" in source


def test_latex_has_the_form_of_a_table():
    source = to_latex(comparison(title="50% of R&D_1"))
    assert source.count(r"\begin{") == source.count(r"\end{")
    bare = re.sub(r"\\[{}$&%#_]", "", source)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    columns = re.search(r"\\begin\{tabular\}\{(l?r+)\}", source)[1]
    rows = [line for line in bare.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {len(columns) - 1}
    assert rows[0] == r"Model & Pearson valid & Pearson test & Speed-up \\"
    assert r"tsf \& \textless{}co\textgreater{}" in source
    assert r"$2{,}000\times$" in source
    assert r"50\% of R\&D\_1" in source
    assert escape_latex("a\\b^c~") == r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}"


@pytest.mark.parametrize("width", [60, 120, 400])
def test_the_terminal_shows_every_system_at_any_width(width):
    console = Console(width=width, file=io.StringIO(), record=True)
    one = comparison()
    for piece in renderables(one, width):
        console.print(piece)
    shown = console.export_text()
    assert "A warning." in shown
    for fact in one.systems:
        assert fact.name.split()[0] in shown


def test_tables_state_what_their_marks_mean():
    one = comparison()
    table = quality_table(one, one.main)
    notes = " ".join(table.notes)
    assert "1 rows without a label" in notes
    assert "gains 0 to 3" in notes
    assert "constant Pearson" in notes
    assert "the system gives every row the same score" in notes
    assert {len(row) for row in table.rows} == {len(table.columns)}
    costs = cost_table(one)
    assert costs is not None
    assert costs.rows[1][1] == "30.0×"  # noqa: RUF001
    assert cost_table(comparison(costs=False)) is None


def test_numbers_are_short():
    assert [count_text(value) for value in (None, 3.14159, 1234.0, 6.1e6, 2e9)] == ["–", "3.14", "1.23k", "6.1M", "2G"]  # noqa: RUF001
    assert [times_text(value) for value in (None, 1.0, 37.34, 1500.2)] == ["–", "1.00×", "37.3×", "1,500×"]  # noqa: RUF001
    assert times_text(0.0479) == "0.048×"  # noqa: RUF001
    assert file_name("a/b: c") == "a-b-c"
    assert file_name("..") == "system"


def test_the_frontier_by_hand():
    assert frontier([(1, 0.9), (10, 0.8), (5, 0.7), (100, 0.5), (100, 0.4)]) == [True, True, False, True, False]
    assert frontier([(1, 0.1), (10, 0.2), (5, 0.3)], lower_is_better=True) == [True, True, False]


def test_the_plot_names_every_point_within_its_box():
    one = comparison()
    for width, height in ((860, 470), (390, 430)):
        source = trade_off_svg(one, one.main, width, height)
        assert source is not None
        for label in ("big", "tsf &amp; &lt;co&gt;", "de_cos"):
            assert f">{label}</text>" in source
        for x, y, css, anchor, content in re.findall(
            r'<text x="([-\d.]+)" y="([-\d.]+)" class="([\w-]*)" text-anchor="(\w+)">([^<]*)<', source
        ):
            left = float(x) - {"start": 0, "middle": 0.5, "end": 1}[anchor] * text_width(content, 11)
            assert -2 <= left <= width, (css, content)
            assert left + text_width(content, 11) <= width + 12, (css, content)
            assert 0 <= float(y) <= height
    assert trade_off_svg(comparison(costs=False), comparison(costs=False).main) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(60, 700), st.integers(60, 400)), min_size=1, max_size=6, unique=True))
def test_labels_of_points_that_are_apart_do_not_overlap(spots):
    spots = [
        one for k, one in enumerate(spots) if all(abs(one[0] - o[0]) + abs(one[1] - o[1]) > 120 for o in spots[:k])
    ]
    found = place_labels([(x, y, "dipair-tsf") for x, y in spots], Box(0, 0, 800, 460))
    width = text_width("dipair-tsf")
    boxes = [
        Box(left, y - 10, left + width, y + 3)
        for x, y, anchor in found
        for left in [x - {"start": 0, "middle": width / 2, "end": width}[anchor]]
    ]
    assert all(one.overlap(other) < 1 for k, one in enumerate(boxes) for other in boxes[:k])
