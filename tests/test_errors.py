import pytest

from pairstill.errors import ArtefactError, InputError, MissingExtraError, PairstillError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("the label is nan"), "the label is nan."),
        (InputError("the label is nan.", file="a.csv"), "a.csv: the label is nan."),
        (
            InputError("the label is nan", file="a.csv", row=7, column="label", expected="a number", fix="Correct it"),
            "a.csv, row 7, column 'label': the label is nan. Expected: a number. Correct it.",
        ),
        (InputError("no column 'qeury'", fix="Did you mean 'query'?"), "no column 'qeury'. Did you mean 'query'?"),
        (ArtefactError("the file does not exist", file="m.json"), "m.json: the file does not exist."),
        (
            MissingExtraError("datasets", "datasets"),
            "This needs the package 'datasets', which is not installed. Run: pip install 'pairstill[datasets]'",
        ),
    ],
)
def test_messages_say_what_where_and_what_to_do(error, message):
    assert isinstance(error, PairstillError)
    assert str(error) == message


def test_the_parts_of_an_error_can_be_read():
    error = InputError("x", file="a.csv", row=1, column="y", expected="e", fix="f")
    assert (error.found, error.file, error.row, error.column, error.expected, error.fix) == (
        "x", "a.csv", 1, "y", "e", "f",
    )  # fmt: skip
