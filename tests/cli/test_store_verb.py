"""`pairstill store`, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.store import RepresentationStore, StoreEditor, content_hashes
from store_samples import make, write

NAMES = ["a", "b", "c\u2028c", "d", "e", "f"]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pairstill", "store", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def refused(*arguments: object) -> str:
    """What a mistake is told; nothing may be printed besides."""
    done = CliRunner().invoke(app, ["store", *map(str, arguments)])
    assert isinstance(done.exception, PairstillError), done.exception
    assert done.stdout == ""
    return str(done.exception)


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["store", *map(str, arguments)])
    assert done.exit_code == 0, (done.exception, done.output)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six items in two shards, of which the last is deleted."""
    write(tmp_path / "store", make(6), ids=NAMES, content_hash=content_hashes(NAMES), dtype="int8")
    with StoreEditor(tmp_path / "store") as editor:
        editor.delete(["f"])
        editor.commit()
    return tmp_path / "store"


def ids_of(folder: Path) -> list[Any]:
    ids = RepresentationStore.open(folder).ids
    assert ids is not None
    return list(ids.to_pylist())


def test_a_store_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    done = call("info", folder, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    body = json.loads(done.stdout)
    assert {name: body[name] for name in ("field", "items", "deleted_items", "generation", "precision", "ids")} == {
        "field": "query", "items": 5, "deleted_items": 1, "generation": 2, "precision": "int8", "ids": "string",
    }  # fmt: skip
    assert body["bytes"] == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    (tmp_path / "gone.txt").write_text("b\nc\u2028c\n", encoding="utf-8")
    done = call("delete", folder, "--ids", tmp_path / "gone.txt")
    assert done.returncode == 0, done.stderr
    assert "deleted: 2 items" in done.stdout
    assert "3 left (generation 3); 3 deleted items occupy space" in done.stdout
    done = call("compact", folder)
    assert done.returncode == 0, done.stderr
    assert "3 items in 1 shards" in done.stdout
    assert "generation 4" in done.stdout
    assert ids_of(folder) == ["a", "d", "e"]
    done = call("verify", folder)
    assert (done.returncode, done.stdout.startswith("whole: ")) == (0, True), done.stderr
    shard = folder / "shard-00004-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    done = call("verify", folder)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {shard}: the shard is damaged: its checksum is not the recorded one.")
    assert "Traceback" not in done.stderr


def test_info_in_words(folder: Path) -> None:
    lines = dict(line.split("  ", 1) for line in said("info", folder).splitlines())
    words = {name.strip(): value.strip() for name, value in lines.items()}
    assert words["items"] == "5"
    assert words["arrays"] == "lengths I64 []; scales F32 [3]; vectors I8 [3, 4]"
    assert (words["content hashes"], words["prepared fingerprint"], words["provenance"]) == ("yes", "none", "none")


def test_export(folder: Path, tmp_path: Path) -> None:
    expected = RepresentationStore.open(folder).gather(range(5), widen=True)
    said("export", folder, "--to", tmp_path / "new" / "out.parquet")
    table = pq.read_table(tmp_path / "new" / "out.parquet")
    assert table.column("id").to_pylist() == NAMES[:5]
    assert table.column("vectors").to_pylist() == expected.vectors.tolist()
    said("export", folder, "--to", tmp_path / "arrays")
    assert np.load(tmp_path / "arrays" / "ids.npy").tolist() == NAMES[:5]
    np.testing.assert_array_equal(np.load(tmp_path / "arrays" / "vectors.npy"), expected.vectors)
    assert "--to exists. Expected: a new folder" in refused("export", folder, "--to", tmp_path / "arrays")
    assert "--to ends with .npy" in refused("export", folder, "--to", tmp_path / "x.npy")
    assert "--to lies in the store's folder" in refused("export", folder, "--to", folder / "x.parquet")
    (tmp_path / "folder.parquet").mkdir()
    assert "--to is a folder" in refused("export", folder, "--to", tmp_path / "folder.parquet")
    assert "the folder does not exist" in refused("export", tmp_path / "none", "--to", tmp_path / "x.parquet")
    (tmp_path / "file").write_text("")
    assert "a file stands where the folder should be" in refused(
        "export", folder, "--to", tmp_path / "file" / "x.parquet"
    )
    if os.getuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        assert "the system said: Permission denied" in refused("export", folder, "--to", tmp_path / "locked" / "x")


def test_a_full_disk_is_said_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = ids_of(folder)
    monkeypatch.setattr("os.fsync", full)
    for arguments in (("delete", folder, "--id", "a"), ("compact", folder)):
        assert "No space left on device." in refused(*arguments)
    assert "No space left on device" in refused("export", folder, "--to", tmp_path / "x.parquet")
    monkeypatch.undo()
    assert ids_of(folder) == before
    assert not (tmp_path / "x.parquet").exists()


def test_ids_from_files(tmp_path: Path) -> None:
    write(tmp_path / "store", make(6), ids=[10, 20, -30, 40, 50, 60])
    (tmp_path / "ids.txt").write_bytes("\ufeff20\r\n-30".encode())
    said("delete", tmp_path / "store", "--ids", tmp_path / "ids.txt")
    assert ids_of(tmp_path / "store") == [10, 40, 50, 60]
    pq.write_table(pa.table({"id": [60, 10]}), tmp_path / "ids.parquet")
    said("delete", tmp_path / "store", "--ids", tmp_path / "ids.parquet")
    said("delete", tmp_path / "store", "--id", "40")
    assert ids_of(tmp_path / "store") == [50]


def test_ids_that_cannot_be_deleted(folder: Path, tmp_path: Path) -> None:
    def of(content: bytes, name: str = "ids.txt") -> str:
        (tmp_path / name).write_bytes(content)
        return refused("delete", folder, "--ids", tmp_path / name)

    before = (folder / "manifest.json").read_bytes()
    assert "ids.txt, row 2: the store has no item 'x' (2 of 3 ids are unknown); nothing was deleted" in of(b"a\nx\nf\n")
    assert "ids.txt, row 2: the line is empty" in of(b"a\n\nb")
    assert "the file holds no ids" in of(b"")
    assert "it is not UTF-8 text" in of(b"\xff\xfe")
    assert "the id 'a' occurs twice, at the positions 0 and 1" in of(b"a\na\n")
    assert "the Parquet file cannot be read" in of(b"PAR1", "ids.parquet")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "other.parquet")
    assert "the columns are name. Expected: a column 'id'" in refused(
        "delete", folder, "--ids", tmp_path / "other.parquet"
    )
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "numbers.parquet")
    assert "the ids are integers. Expected: strings" in refused("delete", folder, "--ids", tmp_path / "numbers.parquet")
    assert "No such file" in refused("delete", folder, "--ids", tmp_path / "none.txt")
    assert "--ids is a folder" in refused("delete", folder, "--ids", tmp_path)
    assert "give one of --id and --ids" in refused("delete", folder)
    assert "the store has no item 'x'" in refused("delete", folder, "--id", "a", "--id", "x")
    assert (folder / "manifest.json").read_bytes() == before
    write(tmp_path / "numbered", make(2), ids=[1, 2])
    assert "the id 'one' is no whole number" in refused("delete", tmp_path / "numbered", "--id", "one")
    assert "the ids cannot be used" in refused("delete", tmp_path / "numbered", "--id", 10**20)
    write(tmp_path / "nameless", make(2))
    assert "the store has no ids" in refused("delete", tmp_path / "nameless", "--id", "a")


def test_damage_is_not_copied_by_compacting_or_exporting(folder: Path, tmp_path: Path) -> None:
    shard = folder / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for arguments in (("compact", folder), ("export", folder, "--to", tmp_path / "x.parquet")):
        assert "the shard is damaged" in refused(*arguments)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_folders_that_are_no_stores(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in (("info",), ("verify",), ("compact",), ("delete", "--id", "a"), ("export", "--to", tmp_path / "x")):
        assert "the folder does not exist" in refused(verb[0], tmp_path / "none", *verb[1:])
        assert "the folder has no manifest.json" in refused(verb[0], tmp_path / "empty", *verb[1:])
    shutil.rmtree(folder / "receipts")
    said("info", folder)


def test_another_writer_is_waited_for_by_nobody(folder: Path) -> None:
    with StoreEditor(folder):
        for arguments in (("compact", folder), ("delete", folder, "--id", "a")):
            done = call(*arguments)
            assert done.returncode == 2
            assert "another process works in this folder" in done.stderr
        said("info", folder)
        said("verify", folder)


def test_looking_into_a_store_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pairstill.cli.app import app; "
        "done = CliRunner().invoke(app, ['store', 'verify', sys.argv[1]]); "
        "assert done.exit_code == 0 and 'torch' not in sys.modules, (done.output, 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
