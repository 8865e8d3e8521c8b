"""Device profiles: facts about a kind of board or phone, each with its source.

``profiles/*.toml`` become ``DeviceProfile`` values. If one could look it up or measure it, it is
here; if one could choose otherwise, it belongs in a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Cores of one kind: ``core`` is the vendor's name in lower case, such as ``cortex-a72``."""

    core: str
    count: int
    max_ghz: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingSystem:
    """What the board runs as delivered. ``libc`` is glibc, musl, bionic or apple."""

    name: str
    libc: str
    libc_version: str | None
    python: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceProfile:
    """Facts about one kind of device.

    ``arch`` is aarch64, armv7 or x86_64; ``isa`` holds the feature names of Linux's
    ``/proc/cpuinfo`` (``asimddp`` is the int8 dot product, ``fphp``/``asimdhp`` FP16 arithmetic);
    ``clusters`` stands biggest core first; ``reach`` is ssh, adb or app (no shell: only an app of
    the user's can run there). ``unverified`` are the dotted keys that no source confirms;
    ``sources`` maps the source key that a table names to the citation.
    """

    id: str
    name: str
    soc: str
    arch: str
    clusters: tuple[Cluster, ...]
    isa: tuple[str, ...]
    cache_kib: Mapping[str, int]
    ram_mib: tuple[int, ...]
    memory_copy_mbps: int | None
    peak_gflops_fp32: float | None  # of one core of clusters[0]
    os: OperatingSystem
    power_w: Mapping[str, float]  # idle, load, ...
    power_sensor: str | None
    reach: str
    sources: Mapping[str, str]
    unverified: tuple[str, ...]
    path: str  # the file it was read from

    @property
    def has_fp16(self) -> bool:
        """True where the cores compute in FP16 (FEAT_FP16)."""
        return "asimdhp" in self.isa

    @property
    def has_int8_dot(self) -> bool:
        """True where the cores have an int8 dot product (FEAT_DotProd, AVX-VNNI, AVX512-VNNI)."""
        return any(f in self.isa for f in ("asimddp", "avx_vnni", "avx512_vnni"))
