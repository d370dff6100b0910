import json
import os
import stat

import pyarrow as pa
import pytest

from pairstill import files
from pairstill.errors import ArtefactError, InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(TypeError), files.write_atomic(path) as file:
        file.writelines([b"half of the new", None])
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_not_written_over(tmp_path):
    with pytest.raises(InputError, match=r"this is a folder\. Expected: the name of a file"):
        files.write_text(tmp_path, "x")
    (tmp_path / "file").write_text("")
    for below in ("a", "a/b"):
        with pytest.raises(InputError, match="a file stands where the folder should be"):
            files.write_text(tmp_path / "file" / below, "x")


def test_a_write_makes_missing_folders_and_keeps_the_umask(tmp_path):
    path = tmp_path / "new" / "a.txt"
    before = os.umask(0o027)
    try:
        files.write_text(path, "hello")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_refuses_nan_and_keeps_text_readable(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    files.write_json(tmp_path / "a.json", {"b": "Grüße", "a": 1})
    assert "Grüße" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert list(files.read_json(tmp_path / "a.json")) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b'{"a": 1,\n "b": }', "row 2: the file is not JSON"), (b'"\xff"', "not JSON")],
)
def test_bad_json_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=message):
        files.read_json(tmp_path / "a.json")


def test_bad_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(ArtefactError, match="does not exist"):
        files.read_parquet(path)
    files.write_parquet(path, pa.table({"x": [1, 2]}))
    assert files.read_parquet(path, ["x"]).num_rows == 2
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtefactError, match="cannot be read"):
        files.read_parquet(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"format": "pairstill/other", "version": 1}, "format 'pairstill/other'"),
        ({"format": "pairstill/kind", "version": 3}, "version is 3.*at most 2.*Upgrade"),
        ({"format": "pairstill/kind"}, "version is None"),
        ([], "format None"),
    ],
)
def test_manifests_of_other_formats_and_versions_are_refused(tmp_path, body, message):
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(ArtefactError, match=message):
        files.read_manifest(tmp_path, "kind", 2)


def test_missing_manifests_are_refused_and_older_versions_read(tmp_path):
    with pytest.raises(ArtefactError, match="the folder does not exist"):
        files.read_manifest(tmp_path / "none", "kind", 2)
    with pytest.raises(ArtefactError, match=r"no manifest.json.*resumes"):
        files.read_manifest(tmp_path, "kind", 2)
    files.write_manifest(tmp_path, "kind", 1, {"rows": 3})
    assert files.read_manifest(tmp_path, "kind", 2)["rows"] == 3


def test_no_artefact_is_written_over_another(tmp_path):
    files.refuse_other_artefact(tmp_path / "none", "kind")
    files.refuse_other_artefact(tmp_path, "kind")
    files.write_manifest(tmp_path, "kind", 1, {})
    files.write_manifest(tmp_path, "kind", 2, {})
    with pytest.raises(InputError, match=r"holds a manifest\.json of format 'pairstill/kind'.*Choose another folder"):
        files.write_manifest(tmp_path, "other", 1, {})
    with pytest.raises(InputError, match="the output is a file"):
        files.refuse_other_artefact(tmp_path / "manifest.json", "kind")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"holds a config.json from elsewhere"):
        files.refuse_other_artefact(tmp_path / "base", "student")


def test_fingerprints_depend_on_content_alone(tmp_path):
    assert files.fingerprint_json({"a": 1, "b": [2]}) == files.fingerprint_json({"b": [2], "a": 1})
    assert files.fingerprint_json({"a": 1}) != files.fingerprint_json({"a": 2})
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert files.fingerprint_file(tmp_path / "a") == files.fingerprint_file(tmp_path / "b")


def test_a_file_that_fits_is_read_ahead(tmp_path):
    (tmp_path / "index").write_bytes(b"x" * 9_000_000)
    assert files.read_ahead(tmp_path / "index", 9_000_000)
    assert not files.read_ahead(tmp_path / "index", 8_999_999)
