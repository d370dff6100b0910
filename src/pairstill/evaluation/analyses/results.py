"""The outcome of analyses as plain values: what `analyses.json` holds and the pictures are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError
from pairstill.evaluation.analyses.cases import Cases
from pairstill.evaluation.analyses.magnitudes import Magnitude
from pairstill.evaluation.analyses.margins import Margins
from pairstill.evaluation.analyses.neighbours import Neighbours
from pairstill.evaluation.analyses.slots import Slots
from pairstill.evaluation.analyses.wins import Wins
from pairstill.files import parse_body, read_json, refuse_newer, write_json

FORMAT = "pairstill/analyses"
FORMAT_VERSION = 1
FILE = "analyses.json"


@dataclass(frozen=True)
class Analyses:
    """Analyses of one evaluation; None for each that was not asked for or does not apply.

    Attributes:
        split: Whose labelled rows they are of.
        rows: How many these are.
        seed: Of samples and draws.
        notes: Why an analysis, or a student in one, is left out.
        margins: The teacher's.
        magnitudes: Of every system.
        wins: Against the teacher or another system.
        slots: Of students that keep several vectors a text.
        neighbours: Of terms.
        cases: Single groups.
    """

    split: str
    rows: int
    seed: int
    notes: tuple[str, ...] = ()
    margins: Margins | None = None
    magnitudes: tuple[Magnitude, ...] | None = None
    wins: Wins | None = None
    slots: Slots | None = None
    neighbours: Neighbours | None = None
    cases: Cases | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the long list of all groups' wins, which the CSV file has."""
        body = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        for one in (body["wins"] or {}).get("systems", ()):
            del one["groups"]
        return body

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], file: Path | None = None) -> Analyses:
        """Check and read what `to_dict` gave.

        Raises:
            ArtefactError: It is something else, newer, or damaged; `file` is named in the message.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise ArtefactError(
                "the file holds no analyses", file=file, expected="an analyses.json of `pairstill evaluate --analyses`"
            )
        refuse_newer(file, content, FORMAT_VERSION)
        return parse_body(cls, content, file, "the file of analyses")

    def save(self, path: str | Path) -> None:
        """Write `analyses.json`."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Analyses:
        """Read `analyses.json`."""
        return cls.from_dict(read_json(Path(path)), Path(path))
