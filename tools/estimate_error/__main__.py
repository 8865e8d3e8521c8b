# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write ``edgeopt/estimate/published/fit.toml``: about half a minute of one core.

python -m tools.estimate_error
"""

from __future__ import annotations

from dataclasses import asdict

from edgeopt.device import load_profile
from edgeopt.estimate import published
from edgeopt.estimate.operators import CONVOLUTIONAL, TRANSFORMER
from edgeopt.estimate.prediction import Fit
from edgeopt.estimate.roofline import machine
from edgeopt.host import detect
from tools.estimate_error.fit import Row, fit
from tools.estimate_error.held_out import UNITS, HeldOut, calibrated, errors, spreads

FILE = published.FOLDER / "fit.toml"
_HEAD = """\
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
# Written by python -m tools.estimate_error out of latencies.jsonl and networks.jsonl.
"""


def rows(kind: str) -> list[Row]:
    """Return the published figures of a kind of network."""
    networks = published.networks()
    found = []
    for figure in published.latencies():
        network = networks[figure.network]
        if network.kind == kind:
            device = load_profile(figure.profile, detect=detect)
            found.append(
                Row(
                    board=figure.board,
                    kernels=figure.kernels,
                    network=network,
                    machine=machine(device, figure.precision, figure.threads),
                    seconds=figure.ms / 1e3,
                )
            )
    return found


def fitted_all() -> dict[str, Fit]:
    """Return what is fitted to all rows, by kind: transformers are drawn to convolutions."""
    first = _held_out(rows(CONVOLUTIONAL), None)
    second = _held_out(rows(TRANSFORMER), first)
    return {CONVOLUTIONAL: fitted(first), TRANSFORMER: fitted(second)}


def _held_out(of: list[Row], others: HeldOut | None) -> HeldOut:
    return HeldOut(of, fit(of, drawn_to=others.whole if others else {}), others)


def fitted(tried: HeldOut) -> Fit:
    """Return what is fitted to the rows of a kind, with the errors of each situation."""
    held = {name: tried.situation(name) for name in UNITS}
    scale, noise = spreads(held["both"])
    seen = {f"{r.kernels} {r.machine.mode} on {r.machine.profile}" for r in tried.rows}
    known = Fit(
        parameters={name: round(value, 5) for name, value in tried.whole.items()},
        seen=tuple(sorted(seen)),
        scale_spread=scale,
        network_spread=noise,
        least_macs=min(row.network.macs for row in tried.rows),
        most_macs=max(row.network.macs for row in tried.rows),
        errors=(),
    )
    told = [one for name, of_name in held.items() for one in errors(of_name, name)]
    return Fit(**(asdict(known) | {"errors": (*told, *calibrated(tried, known))}))


def written(fits: dict[str, Fit]) -> str:
    """Return the text of the file."""
    lines = [_HEAD]
    for kind, found in fits.items():
        lines += [
            f"[{kind}]",
            f"scale_spread = {found.scale_spread}",
            f"network_spread = {found.network_spread}",
            f"least_macs = {found.least_macs}",
            f"most_macs = {found.most_macs}",
            "seen = [",
            *(f'  "{pair}",' for pair in found.seen),
            "]",
            "",
            f"[{kind}.parameters]",
            *(f'"{name}" = {value}' for name, value in sorted(found.parameters.items())),
            "",
        ]
        for one in found.errors:
            lines.append(f"[[{kind}.errors]]")
            for name, value in asdict(one).items():
                lines.append(
                    f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
                )
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Fit, and write the file."""
    FILE.write_text(written(fitted_all()), encoding="utf-8")


if __name__ == "__main__":
    main()
