from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairstill.errors import InputError
from pairstill.experiments.recipe import Recipe, command_line, merged

BODY: dict[str, Any] = {
    "title": "A grid",
    "distill": {"student": "dipair-tsf", "tuples": "mined", "scores": ["a", "b"], "stage1_pairs": 5, "set": {"projection": 64}},
    "grid": {"set.keep": [[4, 8], [8, 16]], "loss": {"margins": {"loss": "margin-mse"}, "listwise": {"loss": "listnet"}}},
    "seeds": [3, 4],
}  # fmt: skip


def test_cells_are_all_combinations_in_order() -> None:
    cells = Recipe.from_dict(BODY).cells()
    assert [cell.name for cell in cells] == [
        "keep 4,8, margins", "keep 4,8, listwise", "keep 8,16, margins", "keep 8,16, listwise",
    ]  # fmt: skip
    assert cells[0].axes == {"set.keep": "keep 4,8", "loss": "margins"}
    assert command_line(cells[3].options) == [
        "--student", "dipair-tsf", "--tuples", "mined", "--scores", "a", "--scores", "b", "--stage1-pairs", "5",
        "--set", "projection=64", "--set", "keep=8,16", "--loss", "listnet",
    ]  # fmt: skip
    assert len({cell.folder for cell in cells}) == 4


def test_settings_are_joined_one_by_one_and_the_cell_wins() -> None:
    assert merged({"set": {"a": 1, "b": 2}, "pairs": 3}, {"set": {"b": 4}, "pairs": 5}) == {
        "set": {"a": 1, "b": 4},
        "pairs": 5,
    }


def test_flags_lists_and_nothing() -> None:
    options = {"cost": False, "encoded": True, "set": {"similarity_skip": False, "projection": None}, "base": None}
    assert command_line(options) == [
        "--no-cost",
        "--encoded",
        "--set",
        "similarity_skip=false",
        "--set",
        "projection=null",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gird": {}}, r"'gird' is wrong.*keys title, distill, grid, evaluate, seeds.*Did you mean 'grid'"),
        ({"seeds": [1, 1]}, "a seed comes twice"),
        ({"seeds": ["one"]}, r"'seeds.0' is wrong"),
        ({"grid": {}}, "'grid' is wrong"),
        ({"grid": {"pairs": []}}, "the axis 'pairs' has no values"),
        ({"grid": {"pairs": [5, 5]}}, "a value of the axis 'pairs' comes twice"),
        ({"grid": {"loss": {"margins": "margin-mse"}}}, r"the value 'margins' of the axis 'loss' is 'margin-mse'"),
        ({"grid": {"loss": {"a=b": {}}}}, r"the label 'a=b' has a '='"),
    ],
)
def test_wrong_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_dict({**BODY, **change}, Path("recipe.yaml"))


@pytest.mark.parametrize("body", [None, [1], "text"])
def test_what_is_no_recipe_is_refused(body: object) -> None:
    with pytest.raises(InputError, match="the file holds no recipe"):
        Recipe.from_dict(body)


def test_cells_that_would_share_a_folder_are_refused() -> None:
    grid = {"loss": {"a b": {"loss": "listnet"}, "a-b": {"loss": "ranknet"}}}
    with pytest.raises(InputError, match="the cells 'a b' and 'a-b' would share a folder"):
        Recipe.from_dict({**BODY, "grid": grid}).cells()


def test_a_misspelt_key_is_named_and_not_the_one_that_lacks() -> None:
    body = {"distil" if key == "distill" else key: value for key, value in BODY.items()}
    with pytest.raises(InputError, match=r"the recipe's 'distil' is wrong.*Did you mean 'distill'\?"):
        Recipe.from_dict(body)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Recipe.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "twice.yaml").write_text("title: a\ngrid: {x: [1]}\ntitle: b\n")
    with pytest.raises(InputError, match=r"twice\.yaml, row 3: the recipe cannot be read: the key 'title' comes twice"):
        Recipe.load(tmp_path / "twice.yaml")
    with pytest.raises(InputError, match=r"bad\.yaml, row 1: the recipe is not YAML: [^\n]+$"):
        Recipe.load(tmp_path / "bad.yaml")
