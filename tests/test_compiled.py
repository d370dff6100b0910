"""Compiled loops and PyTorch side by side."""

from __future__ import annotations

import subprocess
import sys


def test_starting_compiled_threads_leaves_pytorchs_count() -> None:
    code = (
        "import numba, torch\n"
        "torch.set_num_threads(1)\n"
        "from pairstill.compiled import share_threads\n"
        "from pairstill.students.encoders.packed_transformer import _column_sums\n"
        "print(_column_sums(torch.ones(3, 2)).tolist(), torch.get_num_threads(), numba.get_num_threads(), share_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[3.0, 3.0] 1 1 1"
