# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The published figures: whole, plausible, and what the shipped errors were computed from."""

import math

import pytest

from edgeopt.device import profile_names
from edgeopt.estimate.operators import CONVOLUTIONAL, TRANSFORMER, Network, Operator
from edgeopt.estimate.prediction import (
    KERNELS,
    Error,
    Estimate,
    Fit,
    Measured,
    NoEstimate,
    estimate,
    load,
)
from edgeopt.estimate.published import latencies, networks
from edgeopt.estimate.roofline import machine
from edgeopt.target import load_target

WIDE = {"least_macs": 1, "most_macs": 10**12}


def test_each_figure_has_a_source_and_is_of_what_ships() -> None:
    known = networks()
    profiles = set(profile_names())
    for figure in latencies():
        assert figure.source.startswith("https://")
        assert figure.network in known
        assert figure.profile in profiles
        assert figure.precision in ("fp32", "fp16", "int8")
    assert {figure.network for figure in latencies()} == set(known)


def test_each_figure_is_plausible() -> None:
    """None is faster than the peak allows.

    Winograd's F(6, 3), which ncnn has, does 64 products for 36 outputs of 9 each.
    """
    from edgeopt.device import load_profile
    from edgeopt.host import detect

    faster = {"fp32": 1.0, "fp16": 2.0, "dot": 4.0, "int8": 2.0}
    for figure in latencies():
        network = networks_by_name[figure.network]
        on = machine(load_profile(figure.profile, detect=detect), figure.precision, figure.threads)
        least = sum(o.macs * (64 / 324 if o.kind == "conv" else 1) for o in network.operators)
        least /= on.macs_per_s * figure.threads * faster[on.mode]
        assert figure.ms / 1e3 > least, figure
        assert figure.ms < 200_000


networks_by_name = networks()


def test_counts_of_known_networks() -> None:
    """As their papers and model cards name them, in millions of multiply-accumulates."""
    for name, macs in {
        "mobilenet": 569,
        "resnet50": 3858,
        "vgg16": 15470,
        "deit-tiny": 1250,
        "swin-tiny": 4500,
        "yolo11n": 3250,
    }.items():
        assert networks_by_name[name].macs / 1e6 == pytest.approx(macs, rel=0.01)


def test_an_estimate_is_refused_where_no_error_is_known() -> None:
    bare = Fit(parameters={}, seen=(), scale_spread=0.3, network_spread=0.2, errors=(), **WIDE)
    on = machine(load_target("raspberry-pi-4").device, "fp32", 4)
    network = networks_by_name["resnet50"]
    found = estimate(network, on, "onnx", fits={network.kind: bare})
    assert found == NoEstimate(reason="too little was measured to tell an error")


def test_sizes_far_from_what_was_measured_are_refused() -> None:
    fits = load()
    on = machine(load_target("raspberry-pi-4").device, "fp32", 4)

    def of(macs: int) -> Network:
        return Network(name=f"n{macs}", operators=(Operator("conv", macs, 1, 1),))

    least, most = fits["cnn"].least_macs, fits["cnn"].most_macs
    assert least == min(n.macs for n in networks_by_name.values() if n.kind == "cnn")
    assert isinstance(estimate(of(least), on, "onnx", fits=fits), Estimate)
    assert isinstance(estimate(of(most), on, "onnx", fits=fits), Estimate)
    small, large = (estimate(of(n), on, "onnx", fits=fits) for n in (least // 2, most * 2))
    assert isinstance(small, NoEstimate)
    assert isinstance(large, NoEstimate)
    assert "14.7 million multiply-accumulates are far fewer than those of what was" in small.reason
    assert "million multiply-accumulates are far more than those of what was" in large.reason
    # Nor does the user's measurement of such a one tell anything of others.
    own = [Measured(network=of(least // 2), machine=on, seconds=9.0)]
    found, alone = (estimate(of(2 * least), on, "onnx", m, fits) for m in (own, []))
    assert found == alone


def _error(situation: str, kernels: str = "", mode: str = "") -> Error:
    return Error(
        situation=situation, kernels=kernels, mode=mode, median=0.1, low=0.9, high=1.2,
        covered=0.8, rows=9, networks=9, families=3, units=3, unit="families",
    )  # fmt: skip


def test_an_error_is_that_of_its_own_situation_or_of_a_wider_one() -> None:
    whole = ("family", "device", "engine", "both", "yours 1", "yours 3")
    told = [_error(name) for name in whole] + [_error("family", "onnxruntime", "fp32")]
    fit = Fit(
        parameters={},
        seen=("onnxruntime fp32 on raspberry-pi-4", "xnnpack fp32 on raspberry-pi-4"),
        scale_spread=0.3,
        network_spread=0.2,
        **WIDE,
        errors=tuple(told),
    )

    def situation(kernels: str, board: str, precision: str = "fp32", own: int = 0) -> str:
        on = machine(load_target(board).device, precision, 4)
        found = fit.error(kernels, on, own)
        assert found is not None
        return found.situation

    assert situation("onnxruntime", "raspberry-pi-4") == "family"
    assert situation("onnxruntime", "raspberry-pi-5") == "device"
    assert situation("onnxruntime", "raspberry-pi-4", "int8") == "engine"
    assert situation("tvm", "raspberry-pi-4") == "engine"
    assert situation("tvm", "raspberry-pi-5") == "both"
    # Of XNNPACK's own networks there are too few, and another engine's do not stand for them.
    assert situation("xnnpack", "raspberry-pi-4") == "engine"
    assert situation("tvm", "raspberry-pi-5", own=2) == "yours 1"
    assert situation("tvm", "raspberry-pi-5", own=7) == "yours 3"


def test_what_ships_tells_an_error_for_each_engine_on_each_known_device() -> None:
    fits = load()
    assert set(fits) == {CONVOLUTIONAL, TRANSFORMER}
    for kind, name in ((CONVOLUTIONAL, "resnet50"), (TRANSFORMER, "deit-tiny")):
        for board in ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "intel-n100"):
            for engine in KERNELS:
                on = machine(load_target(board).device, "fp32", 4)
                found = estimate(networks_by_name[name], on, engine, fits=fits)
                assert isinstance(found, Estimate)
                assert found.kind == kind
                assert 0 < found.low_ms < found.high_ms < math.inf
                assert found.error.units >= 3
