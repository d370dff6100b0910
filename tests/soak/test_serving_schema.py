"""schemathesis over the OpenAPI schema of a running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service_samples import Server, open_shop

pytestmark = pytest.mark.soak
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_answers_are_those_of_the_schema(base: Path, tmp_path: Path) -> None:
    shop = open_shop(tmp_path, base)
    with Server(shop.arguments) as server:
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"), "run", f"{server.address}/openapi.json", "--checks", CHECKS,
                "--max-examples", "150", "--seed", "1", "--exclude-path", "/v1/admin/swap", "--no-color",
            ],
            capture_output=True, text=True, timeout=1800, cwd=tmp_path,
        )  # fmt: skip
        assert server.process.poll() is None
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(done.stdout[-1500:])
