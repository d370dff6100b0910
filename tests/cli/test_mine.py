from __future__ import annotations

import sys
from pathlib import Path

import pytest

from command_line import pairstill
from mining_samples import positives, write_sources
from pairstill.mining import MiningSettings, mine_tuple_set
from pairstill.tuples import TupleSet


def test_mine_a_tuple_set_with_an_encoder(tmp_path: Path, base: Path) -> None:
    positives().save(tmp_path / "set")
    ran = pairstill(
        "mine", "--tuples", tmp_path / "set", "--out", tmp_path / "out", "--encoder", base, "--neighbours", 8,
        "--max-length", 16, "--transfer", 5, "--transfer-pairs", 20, "--precision", "float32", "--work", tmp_path / "work",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "20 negatives" in ran.stdout
    assert "20 transfer" in ran.stdout
    assert "Encoding passages" in ran.stderr
    mined = TupleSet.load(tmp_path / "out")
    assert len(mined.split("transfer")) == 20
    assert (mined.split("test").labels == 0).sum() == 4
    settings = MiningSettings(encoder=str(base), neighbours=8, max_length=16, transfer=5, transfer_pairs=20)
    assert mine_tuple_set(positives(), settings).fingerprint == mined.fingerprint


def test_mine_a_folder_of_sources_by_bm25(tmp_path: Path) -> None:
    ran = pairstill(
        "mine", "--python-sources", write_sources(tmp_path / "code"), "--queries", 12, "--out", tmp_path / "set",
        "--by", "bm25", "--neighbours", 5, "--transfer", 3,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    mined = TupleSet.load(tmp_path / "set")
    assert mined.provenance["source"]["corpus"] == "python-sources"
    assert (mined.split().labels == 0).sum() > 0


def test_a_folder_with_another_set_is_refused_before_anything_is_mined(tmp_path: Path) -> None:
    positives().save(tmp_path / "set")
    command = ["mine", "--tuples", tmp_path / "set", "--out", tmp_path / "out", "--by", "bm25", "--neighbours", 5]
    assert pairstill(*command).returncode == 0
    before = TupleSet.load(tmp_path / "out").fingerprint
    assert pairstill(*command).returncode == 0
    ran = pairstill(*command, "--seed", 1)
    assert ran.returncode == 2
    assert "which scores and students may be of, and was mined with seed = 0, where 1 is asked for" in ran.stderr
    assert "Encoding" not in ran.stderr
    assert TupleSet.load(tmp_path / "out").fingerprint == before
    positives().save(tmp_path / "out2")
    ran = pairstill(*command[:4], tmp_path / "out2", *command[5:])
    assert "and was not mined from this one" in ran.stderr


def test_an_interrupt_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pairstill.cli.app import main

    def interrupted(folder: Path) -> TupleSet:
        raise KeyboardInterrupt

    monkeypatch.setattr(TupleSet, "load", interrupted)
    monkeypatch.setattr(sys, "argv", ["pairstill", "mine", "--tuples", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to resume\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --tuples and --python-sources"),
        (["--tuples", "{set}", "--python-sources", "installed"], "give one of --tuples and --python-sources"),
        (["--tuples", "{set}", "--queries", "5"], "--queries has no effect here"),
        (["--tuples", "{absent}"], "the folder does not exist"),
        (["--tuples", "{set}", "--out", "{model}"], "the folder holds a config.json from elsewhere"),
        (["--tuples", "{out}"], "--out is the folder of --tuples"),
        (["--tuples", "{set}", "--by", "magic"], "mining by 'magic' is unknown"),
        (["--tuples", "{set}", "--precision", "half"], "the precision 'half' is unknown"),
        (["--tuples", "{set}", "--passage-field", "pasage"], "Did you mean 'passage'"),
        (["--tuples", "{set}", "--neighbours", "60"], "Ask for at most 49 neighbours"),
        (["--tuples", "{set}", "--neighbours", "5", "--encoder", "./nothing"], "the folder of the base does not exist"),
        (["--python-sources", "{absent}"], "the folder of Python sources does not exist"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pairstill.cli.app import main

    positives().save(tmp_path / "set")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    places = {name: tmp_path / name for name in ("set", "absent", "out", "model")}
    filled = [one.format(**places) for one in arguments]
    monkeypatch.setattr(sys, "argv", ["pairstill", "mine", "--out", str(tmp_path / "out"), *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "out").exists()
