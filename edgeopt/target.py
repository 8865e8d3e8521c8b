"""Targets: what is built for a device profile, and how it is measured there.

``targets/*.toml`` become ``Target`` values. ``--target jetson-nano`` names one of them; a path to
a user's own file works as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.device import DeviceProfile

ENGINES = ("onnx", "tflite", "openvino", "tvm")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """One engine of a target: the version that runs on the device, and what is built for it.

    ``opset`` and ``ir_version`` bound the ONNX file (None for the other engines); ``options``
    are the backend's own (TVM: ``mcpu``); ``why`` is the reason for this choice, in a sentence.
    """

    engine: str
    version: str
    precisions: tuple[str, ...]
    opset: int | None
    ir_version: int | None
    options: Mapping[str, str]
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is built for one device profile.

    ``not_built`` maps an engine to the reason why this target has no artifact for it.
    ``seq_lens`` (tokens, ascending) are the static lengths of the engines that need them; the
    longest is also the default of a measurement. ``threads``, ``warmup`` and ``runs`` are the
    defaults of a measurement. ``budget`` may hold ``latency_ms`` and ``memory_mib``.
    """

    name: str
    description: str
    device: DeviceProfile
    engines: tuple[EngineSpec, ...]
    not_built: Mapping[str, str]
    recipe: str
    seq_lens: tuple[int, ...]
    threads: int
    warmup: int
    runs: int
    budget: Mapping[str, float]
    path: str

    @property
    def is_host(self) -> bool:
        """True for the target that stands for the machine edgeopt itself runs on."""
        return self.device.reach == "local"
