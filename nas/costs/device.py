"""Identifies the device: figures depend on it besides the conditions."""

import platform
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=8)
def fingerprint(device: str) -> dict[str, str]:
    """The name of the processor or GPU, and the versions of the software that runs on it."""
    found = {"torch": torch.__version__}
    if device.partition(":")[0] == "cpu":
        return {**found, "device": _cpu_name(), "isa": torch.backends.cpu.get_cpu_capability()}
    if not torch.cuda.is_available():
        return {**found, "device": "cuda, none present"}
    return {
        **found,
        "device": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }


def check_present(device: str) -> None:
    """Raises a ValueError if this machine does not have the device."""
    kind, _, number = device.partition(":")
    found = torch.cuda.device_count()
    if kind == "cuda" and not (number or "0").isdigit():
        raise ValueError(f"device {device} is not known; use cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= found:
        raise ValueError(f"device {device} is not here: this machine has {found or 'no'} GPU{'s' if found > 1 else ''}")


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
