# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""edgeopt: from a trained transformer to a checked, measured bundle on a small device.

    import edgeopt

    bundle = edgeopt.compile("path/to/model", "raspberry-pi-4")
    report = edgeopt.profile(bundle, board="kitchen")

The names below are loaded on first use, so that ``import edgeopt`` pulls in no toolchain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeopt._version import __version__ as __version__

if TYPE_CHECKING:
    from edgeopt.boards import connect
    from edgeopt.bundle import Bundle, open_bundle
    from edgeopt.bundle.verify import Verification, verify
    from edgeopt.compress_pipeline import compress
    from edgeopt.errors import EdgeoptError
    from edgeopt.estimate_pipeline import Estimates, estimate_latency
    from edgeopt.evaluate.evaluation import Evaluation
    from edgeopt.evaluate_pipeline import evaluate_bundle
    from edgeopt.measure.measurement import Measurement
    from edgeopt.measure.report import Report
    from edgeopt.measure.session import profile
    from edgeopt.model import Model
    from edgeopt.model.importer import import_model
    from edgeopt.model.torch_module import import_torch
    from edgeopt.pipeline import compile
    from edgeopt.run.cascade import CascadeReading, cascade, read_cascade
    from edgeopt.run.compare import Comparison, Segmentation, compare, read_images, segment
    from edgeopt.run.early_exit import Cascade
    from edgeopt.run.generating import Answer, Answers, Sampling, generate, transcribe
    from edgeopt.run.reading import Reading, read
    from edgeopt.target import Target, load_target, target_names

_HOMES = {
    "Answer": "edgeopt.run.generating",
    "Answers": "edgeopt.run.generating",
    "Bundle": "edgeopt.bundle",
    "Cascade": "edgeopt.run.early_exit",
    "CascadeReading": "edgeopt.run.cascade",
    "Comparison": "edgeopt.run.compare",
    "EdgeoptError": "edgeopt.errors",
    "Estimates": "edgeopt.estimate_pipeline",
    "Evaluation": "edgeopt.evaluate.evaluation",
    "Measurement": "edgeopt.measure.measurement",
    "Model": "edgeopt.model",
    "Reading": "edgeopt.run.reading",
    "Report": "edgeopt.measure.report",
    "Sampling": "edgeopt.run.generating",
    "Segmentation": "edgeopt.run.compare",
    "Target": "edgeopt.target",
    "Verification": "edgeopt.bundle.verify",
    "cascade": "edgeopt.run.cascade",
    "compare": "edgeopt.run.compare",
    "compile": "edgeopt.pipeline",
    "compress": "edgeopt.compress_pipeline",
    "connect": "edgeopt.boards",
    "estimate_latency": "edgeopt.estimate_pipeline",
    "evaluate_bundle": "edgeopt.evaluate_pipeline",
    "generate": "edgeopt.run.generating",
    "import_model": "edgeopt.model.importer",
    "import_torch": "edgeopt.model.torch_module",
    "load_target": "edgeopt.target",
    "open_bundle": "edgeopt.bundle",
    "profile": "edgeopt.measure.session",
    "read": "edgeopt.run.reading",
    "read_cascade": "edgeopt.run.cascade",
    "read_images": "edgeopt.run.compare",
    "segment": "edgeopt.run.compare",
    "target_names": "edgeopt.target",
    "transcribe": "edgeopt.run.generating",
    "verify": "edgeopt.bundle.verify",
}

__all__ = [
    "Answer",
    "Answers",
    "Bundle",
    "Cascade",
    "CascadeReading",
    "Comparison",
    "EdgeoptError",
    "Estimates",
    "Evaluation",
    "Measurement",
    "Model",
    "Reading",
    "Report",
    "Sampling",
    "Segmentation",
    "Target",
    "Verification",
    "cascade",
    "compare",
    "compile",
    "compress",
    "connect",
    "estimate_latency",
    "evaluate_bundle",
    "generate",
    "import_model",
    "import_torch",
    "load_target",
    "open_bundle",
    "profile",
    "read",
    "read_cascade",
    "read_images",
    "segment",
    "target_names",
    "transcribe",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeopt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
