from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pairstill import machine
from pairstill.errors import InputError


def make_root(tmp_path: Path, group: str, mounts: str, files: dict[str, str], cpuinfo: str = "") -> Path:
    for name, text in {
        "proc/self/cgroup": group, "proc/self/mountinfo": mounts, "proc/cpuinfo": cpuinfo, **files,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:29 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)


def test_affinity_counts_without_control_groups(tmp_path: Path, many_cores: None) -> None:
    assert machine.usable_cores(tmp_path) == 16


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 16), ("400000 100000", 4), ("150000 100000", 1), ("20000 100000", 1)]
)
def test_version_2_quota(tmp_path: Path, many_cores: None, quota: str, cores: int) -> None:
    root = make_root(tmp_path, "0::/a/b\n", V2, {"sys/fs/cgroup/a/b/cpu.max": quota})
    assert machine.usable_cores(root) == cores


def test_a_parents_quota_counts(tmp_path: Path, many_cores: None) -> None:
    root = make_root(
        tmp_path, "0::/a/b\n", V2,
        {"sys/fs/cgroup/a/b/cpu.max": "800000 100000", "sys/fs/cgroup/a/cpu.max": "300000 100000"},
    )  # fmt: skip
    assert machine.usable_cores(root) == 3


def test_version_1_quota_and_memory_of_a_container(tmp_path: Path, many_cores: None) -> None:
    root = make_root(
        tmp_path, "4:memory:/docker/abc\n1:cpu,cpuacct:/\n", V1,
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576",
        },
    )  # fmt: skip
    assert machine.usable_cores(root) == 2
    assert machine.memory_limit_bytes(root) == 1048576


def test_no_quota_in_version_1(tmp_path: Path, many_cores: None) -> None:
    root = make_root(tmp_path, "1:cpu,cpuacct:/\n", V1, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"})
    assert machine.usable_cores(root) == 16


def test_memory_limit_of_version_2(tmp_path: Path) -> None:
    root = make_root(tmp_path, "0::/../outside\n", V2, {"sys/fs/cgroup/memory.max": "2097152"})
    assert machine.memory_limit_bytes(root) == 2097152
    unlimited = make_root(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/memory.max": "max"})
    assert (machine.memory_limit_bytes(unlimited) or 0) > 2097152


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", "float32"),
        ("flags\t\t: avx512f avx512_bf16", "bfloat16"),
        ("flags\t\t: avx512f amx_bf16 amx_int8 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "float32"),
    ],
)
def test_precision_follows_the_instruction_sets(tmp_path: Path, flags: str, precision: str) -> None:
    root = make_root(tmp_path, "", "", {}, f"processor\t: 0\nmodel name\t: Some Processor\n{flags}\n\nprocessor\t: 1\n")
    assert machine.best_precision(root) == precision
    assert machine.processor_name(root) == "Some Processor"
    assert set(machine.instruction_sets(root)) <= set(flags.split())


def test_description_goes_into_json() -> None:
    facts = machine.describe()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["usable_cores"] >= 1


def test_unknown_precision_is_refused() -> None:
    assert machine.resolve_precision("float32") == "float32"
    assert machine.resolve_precision("auto") == machine.best_precision()
    with pytest.raises(InputError, match=r"'float16' is unknown. Expected: auto, float32 or bfloat16"):
        machine.resolve_precision("float16")


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="Linux with glibc alone")
def test_the_heap_grows_on_huge_pages() -> None:
    code = (
        "from pairstill.machine import use_huge_pages\n"
        "assert use_huge_pages(256 * 2**20)\n"
        "kept = [bytes(2**20) for _ in range(100)]\n"
        "heap, flags = '', {}\n"
        "for line in open('/proc/self/smaps'):\n"
        "    if '-' in line.split(' ')[0]: area = line\n"
        "    elif line.startswith('VmFlags'): flags[area.strip()] = line.split()\n"
        "print(any('hg' in found for area, found in flags.items() if area.endswith('[heap]')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True"
    # More address space than there is, is refused and nothing else.
    code = "from pairstill.machine import use_huge_pages; print(use_huge_pages(2**62))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="Linux with glibc alone")
def test_freed_memory_is_given_back_where_it_is_much() -> None:
    code = (
        "from pairstill.machine import give_back_freed_memory, keep_freed_memory\n"
        "assert keep_freed_memory()\n"
        "blocks = [bytearray(b'1') * 2**20 for _ in range(200)]\n"
        "print(give_back_freed_memory(2**26))\n"
        "last, blocks = blocks[-1], None\n"
        "print(give_back_freed_memory(2**26), give_back_freed_memory(2**28))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    in_use, gap, little = map(int, done.stdout.split())
    assert in_use == 0
    assert gap > 150 * 2**20
    assert little == 0


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    try:
        assert machine.set_threads(1) == 1
        assert torch.get_num_threads() == 1
        for said in ("", "0", "all"):
            monkeypatch.setenv("OMP_NUM_THREADS", said)
            assert machine.set_threads() == machine.usable_cores()
        for said in ("3", "3,2"):
            monkeypatch.setenv("OMP_NUM_THREADS", said)
            assert machine.set_threads() == torch.get_num_threads() == 3
        assert machine.set_threads(2) == 2
        with pytest.raises(InputError, match="at least 1"):
            machine.set_threads(0)
    finally:
        torch.set_num_threads(before)
