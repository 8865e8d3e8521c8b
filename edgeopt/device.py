# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Device profiles: facts about a kind of board or phone, each with its source.

``profiles/*.toml`` become ``DeviceProfile`` values. If one could look it up or measure it, it is
here; if one could choose otherwise, it belongs in a target.

Every table of a profile names its ``source``, one or several keys of the file's ``[sources]``,
and lists under ``unverified`` the facts that no source confirms. A profile whose ``reach`` is
``local`` holds no facts: they are read from the running machine (``edgeopt.host``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgeopt import fields
from edgeopt.architectures import ARCHITECTURES
from edgeopt.fields import Table

FOLDER = Path(__file__).parent / "profiles"

LIBCS = ("glibc", "musl", "bionic", "apple")
REACHES = ("ssh", "adb", "app", "local")

_CORE = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
_FEATURE = r"[a-z][a-z0-9_.]*"
_CACHE = r"(l1d|l1i|l2|l3|slc)(_[a-z0-9]+)*"  # l2_per_core, l3_shared, l2_a78
_POWER = r"[a-z]+(_min|_max)?_w"
_VERSION = r"\d+(\.\d+)+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Cores of one kind: ``core`` is the vendor's name in lower case, such as ``cortex-a72``.

    ``core`` is ``host`` for the running machine; ``max_ghz`` is 0.0 if that one does not tell.
    """

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
    ``clusters`` stands biggest core first; ``reach`` is ssh, adb, app (no shell: only an app of
    the user's can run there) or local. ``unverified`` are the dotted keys that no source confirms;
    ``sources`` maps each source key to its citation, ``cited`` each table of the file (``device``
    for the top one) to the source keys that it names.
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
    cited: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def has_fp16(self) -> bool:
        """True if the cores compute in FP16 (FEAT_FP16)."""
        return "asimdhp" in self.isa

    @property
    def has_int8_dot(self) -> bool:
        """True if the cores have an int8 dot product (FEAT_DotProd, AVX-VNNI, AVX512-VNNI)."""
        return any(f in self.isa for f in ("asimddp", "avx_vnni", "avx512_vnni"))

    @property
    def overflows_int8(self) -> bool:
        """True if INT8 kernels add two products of uint8 and int8 in 16 bits, which overflows.

        That is ``vpmaddubsw``, for which an x86-64 core without VNNI has no better instruction.
        """
        return self.arch == "x86_64" and not self.has_int8_dot

    @property
    def core_count(self) -> int:
        """How many cores the device has, of all kinds."""
        return sum(cluster.count for cluster in self.clusters)


def profile_names() -> tuple[str, ...]:
    """Return the names of the shipped device profiles."""
    return fields.shipped_names(FOLDER)


class Detect(Protocol):
    """Reads the profile of the running machine."""

    def __call__(self, *, id: str, name: str, path: str) -> DeviceProfile:
        """Return it under this id and name, for a profile that lies in ``path``."""


def load_profile(
    name_or_path: str | Path, *, detect: Detect, beside: Path | None = None
) -> DeviceProfile:
    """Read a shipped device profile by name, or a user's own by path.

    One that says ``reach = "local"`` holds no facts: ``detect`` reads them. A relative path starts
    at the directory ``beside``, or at the current one. Raises InputError
    with the file and the dotted key for whatever the file has wrong.
    """
    path = fields.locate(name_or_path, FOLDER, "device profile", beside=beside)
    top = fields.read_toml(path)
    if top.choice("reach", REACHES) == "local":
        name = top.text("name")
        top.close()
        return detect(id=path.stem, name=name, path=str(path))
    return _parse(top, path)


def _parse(top: Table, path: Path) -> DeviceProfile:
    citations = _Citations(top)
    clusters = tuple(_cluster(table, citations) for table in top.tables("clusters"))
    if not clusters:
        raise top.wrong("clusters", "is empty, expected one [[clusters]] table or more")
    isa, cache, memory = top.table("isa"), top.table("cache_kib"), top.table("memory")
    compute, power = top.optional_table("compute"), top.optional_table("power")
    values: dict[str, Any] = {
        "name": top.text("name"),
        "soc": top.text("soc"),
        "arch": top.choice("arch", ARCHITECTURES),
        "reach": top.choice("reach", REACHES),
        "isa": isa.words("features", like=_FEATURE),
        "cache_kib": {key: cache.integer(key, high=2**20) for key in _keys(cache, _CACHE)},
        "ram_mib": memory.ascending("ram_mib", low=16, high=2**24),
        "memory_copy_mbps": memory.integer("copy_mbps", None, high=10**7),
        "peak_gflops_fp32": None,
        "power_w": {},
        "power_sensor": None,
        "os": _operating_system(top.table("os"), citations),
    }
    if compute is not None:
        values["peak_gflops_fp32"] = compute.number("peak_gflops_fp32", low=0.01, high=10_000)
        citations.close(compute)
    if power is not None:
        values["power_sensor"] = power.text("sensor", None)
        values["power_w"] = {
            key.removesuffix("_w"): power.number(key, low=0.001, high=10_000)
            for key in _keys(power, _POWER, besides=("sensor",))
        }
        citations.close(power)
    for table in (isa, cache, memory, top):
        citations.close(table)
    return DeviceProfile(
        id=path.stem,
        clusters=clusters,
        path=str(path),
        sources=citations.sources(),
        unverified=tuple(citations.unverified),
        cited=citations.cited,
        **values,
    )


def _cluster(table: Table, citations: _Citations) -> Cluster:
    cluster = Cluster(
        core=table.text("core", like=_CORE),
        count=table.integer("count", high=1024),
        max_ghz=table.number("max_ghz", low=0.05, high=10.0),
    )
    citations.close(table)
    return cluster


def _operating_system(table: Table, citations: _Citations) -> OperatingSystem:
    system = OperatingSystem(
        name=table.text("name"),
        libc=table.choice("libc", LIBCS),
        libc_version=table.text("libc_version", None, like=_VERSION),
        python=table.text("python", None, like=_VERSION),
    )
    if system.libc == "glibc" and system.libc_version is None:
        raise table.wrong("libc_version", "is missing, and decides which engines a board can load")
    citations.close(table)
    return system


def _keys(table: Table, like: str, besides: tuple[str, ...] = ()) -> list[str]:
    """Return the keys of a table whose keys are free within the pattern ``like``."""
    keys = [key for key in table.data if key not in (*besides, "source", "unverified")]
    for key in keys:
        if not re.fullmatch(like, key):
            raise table.wrong(key, f"unknown key (expected one that matches {like})")
    return keys


class _Citations:
    """Collects, while a profile is read, which source stands behind which table."""

    def __init__(self, top: Table) -> None:
        self._table = top.table("sources")
        self._known = {key: self._table.text(key) for key in self._table.data}
        self.cited: dict[str, tuple[str, ...]] = {}
        self.unverified: list[str] = []

    def close(self, table: Table) -> None:
        """Take the table's ``source`` and ``unverified``, check them, and close the table."""
        facts = [
            key
            for key, value in table.data.items()
            if key not in ("source", "unverified")
            and not isinstance(value, dict)
            and not (isinstance(value, list) and value and isinstance(value[0], dict))
        ]
        unverified = table.words("unverified", facts) if "unverified" in table else ()
        if isinstance(table.data.get("source"), list):
            sources = table.words("source", tuple(self._known))
        elif "source" in table or len(unverified) < len(facts):
            sources = (table.choice("source", tuple(self._known)),)
        else:
            sources = ()  # nothing here is confirmed, so nothing is cited
        table.close()
        prefix = f"{table.key}." if table.key else ""
        self.unverified += [prefix + key for key in unverified]
        self.cited[table.key or "device"] = sources

    def sources(self) -> dict[str, str]:
        """Return source key -> citation. Raises InputError for a source that no table names."""
        used = {key for keys in self.cited.values() for key in keys}
        for key in self._known:
            if key not in used:
                raise self._table.wrong(key, "is named by no table of this file")
        return self._known
