"""What a training's heap holds beyond its needs, given back now and then."""

from __future__ import annotations

import time

from pairstill.machine import give_back_freed_memory

EVERY_S = 60.0


class FreedMemory:
    """Looks once a minute, which costs a second where there is something to give back (`machine.give_back_freed_memory`)."""

    def __init__(self) -> None:
        self._looked = time.perf_counter()

    def look(self) -> None:
        """Call it between steps."""
        if time.perf_counter() - self._looked > EVERY_S:
            give_back_freed_memory()
            self._looked = time.perf_counter()
