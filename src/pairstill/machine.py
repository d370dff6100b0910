"""The machine at hand: cores that may be used, memory, instruction sets; and the precision and threads that follow."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from pairstill.errors import InputError

PRECISIONS = ("float32", "bfloat16")
KEPT_PRODUCTS = 128
# Names that change what a kernel can do; everything else in /proc/cpuinfo is left out of reports.
NOTABLE_INSTRUCTION_SETS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip


def usable_cores(root: Path = Path("/")) -> int:
    """How many cores this process may use: the least of its affinity and every CPU quota of its control groups.

    A quota of 1.5 cores counts as 1: one thread more than the quota makes every parallel loop wait for a throttled one.

    Args:
        root: Where `/proc` and `/sys` lie; another folder only in tests.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota_v2(folder) for folder in _control_groups(root, None)]
    quotas += [_quota_v1(folder) for folder in _control_groups(root, "cpu")]
    return max(1, min([affinity, *(int(quota) for quota in quotas if quota is not None)]))


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process may use: the least of the machine's and every control group's limit; None if unknown.

    Args:
        root: Where `/proc` and `/sys` lie; another folder only in tests.
    """
    limits = [_number(folder / "memory.max") for folder in _control_groups(root, None)]
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _control_groups(root, "memory")]
    with contextlib.suppress(ValueError, OSError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    known = [limit for limit in limits if limit is not None and limit > 0]
    return min(known) if known else None


def memory_use(root: Path = Path("/")) -> dict[str, int]:
    """Bytes that this process has in memory: `anonymous` (its own), `mapped` (of files), `peak` (both, at the most).

    The system can take mapped pages back at any time. Empty where there is no `/proc` (macOS).
    """
    names = {"RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: 1024 * int(found[key].split()[0]) for key, name in names.items() if key in found}


def processor_name(root: Path = Path("/")) -> str:
    """The processor's name as the system tells it, such as `Intel(R) Xeon(R) Processor`."""
    name = _processor_facts(root).get("model name") or _sysctl("machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """The instruction sets of the processor that matter to matrix products, by their Linux names."""
    facts = _processor_facts(root)
    present = set((facts.get("flags") or facts.get("features") or "").lower().split())
    if not present:
        intel = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower().split()
        present = {name.replace("avx512vnni", "avx512_vnni") for name in intel}
        arm = {"hw.optional.AdvSIMD": "asimd", "hw.optional.arm.FEAT_BF16": "bf16", "hw.optional.arm.FEAT_I8MM": "i8mm"}
        present |= {name for key, name in arm.items() if _sysctl(key) == "1"}
    return tuple(name for name in NOTABLE_INSTRUCTION_SETS if name in present)


def best_precision(root: Path = Path("/")) -> str:
    """`bfloat16` where the processor multiplies it natively (`avx512_bf16` or `amx_bf16`), otherwise `float32`."""
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(instruction_sets(root)) else "float32"


def resolve_precision(precision: str) -> str:
    """Turn `auto` into the best precision of this processor and check every other name.

    Raises:
        InputError: The precision is none of auto, float32, bfloat16.
    """
    if precision == "auto":
        return best_precision()
    if precision not in PRECISIONS:
        raise InputError(f"the precision '{precision}' is unknown", expected=f"auto, {' or '.join(PRECISIONS)}")
    return precision


def keep_freed_memory(most_bytes: int | None = None) -> bool:
    """Have glibc keep freed blocks instead of giving them back: saves a third of a training step on page faults.

    Args:
        most_bytes: Free memory at the end of the heap beyond this goes back; None keeps all of it.

    Returns:
        Whether it did; False on other C libraries.
    """
    import ctypes

    trim_threshold, mmap_max = -1, -4
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(
            library.mallopt(trim_threshold, -1 if most_bytes is None else most_bytes) and library.mallopt(mmap_max, 0)
        )
    except (OSError, AttributeError):
        return False


def use_huge_pages(size_bytes: int = 3 * 2**30) -> bool:
    """Have the heap of this process lie on huge pages up to a size; call it before a training, which fills them and keeps them.

    A heap that grows by small pages costs a training a fifth of its time, most of all where a hypervisor has to find them.
    Freed blocks are kept from now on, as `keep_freed_memory` does. Nothing is taken before it is used. The library of products
    keeps the compiled forms of `KEPT_PRODUCTS` sizes, unless the environment says otherwise: each pins a piece of the heap, and
    texts of many lengths ask for dozens of new sizes a step.

    Args:
        size_bytes: How much of the heap; what is beyond lies on small pages.

    Returns:
        Whether it did; False on other systems and C libraries, and where so much address space is refused.
    """
    import ctypes

    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_PRODUCTS))
    huge_page, madv_hugepage = 2**21, 14
    if sys.platform != "linux" or not keep_freed_memory():
        return False
    library = ctypes.CDLL("libc.so.6")
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # The heap grows by it, and keeps both its length and the advice when it is freed.
    block = library.malloc(size_bytes)
    if block is None:
        return False
    start = -(-block // huge_page) * huge_page
    advised: bool = library.madvise(start, (block + size_bytes - start) // huge_page * huge_page, madv_hugepage) == 0
    library.free(block)
    return advised


def give_back_freed_memory(most_bytes: int | None = None) -> int:
    """Give the system what glibc's heap holds without using it, where that is much; `keep_freed_memory` keeps it else.

    Blocks of many sizes leave gaps that fit nothing: after some hundred steps of a training the heap is several times what a
    step needs. The next step pays for some pages again, so once a minute is often enough.

    Args:
        most_bytes: What may be kept; None means an eighth of the memory that this process may use.

    Returns:
        Bytes that were given back; 0 where there was less than that, and on other C libraries.
    """
    import ctypes

    class Info(ctypes.Structure):
        # glibc's struct mallinfo2: ten numbers, of which the ninth counts the free bytes.
        _fields_: ClassVar = [("other", 8 * ctypes.c_size_t), ("free", ctypes.c_size_t), ("top", ctypes.c_size_t)]

    if most_bytes is None:
        most_bytes = (memory_limit_bytes() or 2**35) // 8
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallinfo2.restype, library.malloc_trim.argtypes = Info, [ctypes.c_size_t]
    except (OSError, AttributeError):
        return 0
    if library.mallinfo2().free <= most_bytes:
        return 0
    before = memory_use().get("anonymous", 0)
    library.malloc_trim(0)
    return max(0, before - memory_use().get("anonymous", 0))


def set_threads(threads: int | None = None) -> int:
    """Tell PyTorch and NumPy how many threads to use, rather than let them count the host's cores; returns the number.

    Args:
        threads: None means what `OMP_NUM_THREADS` says, or else `usable_cores()`.

    Raises:
        InputError: The number is below 1.
    """
    import torch

    if threads is not None and threads < 1:
        raise InputError(f"the number of threads is {threads}", expected="at least 1")
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    chosen = threads or (int(said) if said.isdecimal() and int(said) else usable_cores())
    torch.set_num_threads(chosen)
    set_blas_threads(chosen)
    keep_freed_memory()
    return chosen


def set_blas_threads(threads: int) -> None:
    """Tell NumPy's matrix products how many threads to use, where threadpoolctl, which comes with scikit-learn, is there."""
    with contextlib.suppress(ImportError):
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        threadpool_limits(threads, user_api="blas")


def describe() -> dict[str, Any]:
    """What a report says about the machine; plain values that go into JSON."""
    return {
        "processor": processor_name(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "usable_cores": usable_cores(),
        "memory_bytes": memory_limit_bytes(),
        "instruction_sets": list(instruction_sets()),
        "best_precision": best_precision(),
    }


def _control_groups(root: Path, controller: str | None) -> list[Path]:
    """Folders of this process's control group and all its parents; `controller` None means version 2.

    Inside a container the group's path may lie outside what is mounted; then the mount itself is the group.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    own = None
    for line in groups:
        number, controllers, path = line.split(":", 2)
        if (controller is None and number == "0" and not controllers) or controller in controllers.split(","):
            own = path
    if own is None:
        return []
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        wanted = kind == "cgroup2" if controller is None else kind == "cgroup" and controller in options.split(",")
        if not wanted:
            continue
        _, _, _, mounted_root, mount_point, *_ = fields.split()
        base = root / mount_point.lstrip("/")
        inside = own if mounted_root == "/" else own.removeprefix(mounted_root)
        folder = base / inside.lstrip("/") if ".." not in Path(inside).parts else base
        chain = [one for one in (folder, *folder.parents) if one == base or base in one.parents]
        return [one for one in chain if one.is_dir()]
    return []


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _processor_facts(root: Path) -> dict[str, str]:
    """The first processor of `/proc/cpuinfo`; empty where there is none (macOS)."""
    try:
        first = (root / "proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


@functools.cache
def _sysctl(key: str) -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        answer = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()
