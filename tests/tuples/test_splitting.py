import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.tuples.splitting import DEFAULT_FRACTIONS, first_crossing, make_splits

GROUPS = st.lists(st.text(max_size=3), min_size=1, max_size=60)


@given(groups=GROUPS, seed=st.integers(0, 5))
def test_made_splits_keep_groups_together(groups, seed):
    array = pa.array(groups, pa.large_string())
    splits = make_splits(array, DEFAULT_FRACTIONS, seed)
    assert len(splits) == len(groups)
    assert first_crossing(array, splits) is None
    by_group = {}
    for group, split in zip(groups, splits.to_pylist(), strict=True):
        assert by_group.setdefault(group, split) == split


@given(groups=GROUPS, more=GROUPS, seed=st.integers(0, 5))
def test_rows_that_are_added_move_no_old_row(groups, more, seed):
    before = make_splits(pa.array(groups, pa.large_string()), DEFAULT_FRACTIONS, seed).to_pylist()
    after = make_splits(pa.array([*more, *groups], pa.large_string()), DEFAULT_FRACTIONS, seed).to_pylist()
    assert after[len(more) :] == before


def test_shares_and_seeds():
    groups = pa.array([f"g{one}" for one in range(20_000)], pa.large_string())
    fractions = {"test": 0.25, "train": 0.75}
    one, other = make_splits(groups, fractions, 1).to_pylist(), make_splits(groups, fractions, 2).to_pylist()
    assert one.count("test") / len(one) == pytest.approx(0.25, abs=0.02)
    assert sum(left != right for left, right in zip(one, other, strict=True)) > 5_000
    assert set(make_splits(groups, {"transfer": 1.0}, 1).to_pylist()) == {"transfer"}
    first = make_splits(groups.slice(0, 16), DEFAULT_FRACTIONS, 0).to_pylist()
    assert "".join(one[1] for one in first) == "rrrrrrrrrrrrrrre"  # the same on every machine


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["train", "valid", "test", "transfer"])),
        min_size=1,
        max_size=8,
    )
)
def test_crossing_groups_are_found(rows):
    groups, splits = [one for one, _ in rows], [one for _, one in rows]
    found = first_crossing(pa.array(groups, pa.large_string()), pa.array(splits))
    sides = [{"transfer": "train"}.get(one, one) for one in splits]
    crossing = [at for at, one in enumerate(groups) if sides[at] != sides[groups.index(one)]]
    if not crossing:
        assert found is None
    else:
        row = crossing[0]
        assert found == (row, groups.index(groups[row]), len({groups[at] for at in crossing}))
