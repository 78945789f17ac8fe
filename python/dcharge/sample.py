"""Sampling on its own: densities -> chosen points with weights, as point data for training. `dcharge sample`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dataset import check_frame, system_frames, tell_sample
from .density import PointDensity
from .device import choose_device
from .errors import InputError, counted, log
from .freeze import load_frozen
from .io import PointWriter
from .progress import track
from .resampling import feature_function
from .sampling import draw, make_sampler

EDGES = 10.0 ** np.arange(-8, 4)  # e/Angstrom^3, between shells of |density|


class Shells:
    """How many points of every shell of |density| there were, and how many of them were kept."""

    def __init__(self):
        self.all, self.kept = (np.zeros(len(EDGES) + 1, dtype=np.int64) for _ in range(2))

    def add(self, values, index) -> None:
        """Count one frame: values [n] e/Angstrom^3 of all points, index [m] of those kept."""
        shell = np.searchsorted(EDGES, np.abs(values), side="right")
        self.all += np.bincount(shell, minlength=len(self.all))
        self.kept += np.bincount(shell[index], minlength=len(self.all))

    def lines(self) -> list[str]:
        """A table from the densest shell to the thinnest, without empty ends."""
        filled = np.flatnonzero(self.all)
        out = [f"{'|density|, e/Angstrom^3':<24}{'points':>14}{'kept':>10}{'share':>11}"]
        for k in reversed(range(filled[0], filled[-1] + 1) if len(filled) else ()):
            low = f"{EDGES[k - 1]:.0e}" if k else "0"
            name = f"{low} to {EDGES[k]:.0e}" if k < len(EDGES) else f"above {low}"
            share = f"{100 * self.kept[k] / self.all[k]:9.3g} %" if self.all[k] else ""
            out.append(f"{name:<24}{self.all[k]:>14}{self.kept[k]:>10}{share:>11}")
        return out


def sample(
    sources, target, section: dict, *, model=None, seed: int = 0, dtype="float64", exactly: dict | None = None,
    pbc=None, field=None, device="auto",
) -> Shells:  # fmt: skip
    """Draw points of every frame of `sources` and write them, with their weights, as point data to the folder `target`.

    section  normalised section of a sampler, as `training/sampler`
    model    frozen model whose features the sampler `independent` looks at
    exactly  {option: number of points} that every frame must have; InputError names the option
    """
    independent = section["type"] == "independent"
    if independent and model is None:
        raise InputError("--model: sampler 'independent' needs a frozen model")
    if model is not None and not independent:
        raise InputError(f"--model: sampler '{section['type']}' looks at no model; --sampler independent does")
    if Path(target).suffix:
        raise InputError(f"{target}: point data is a folder; a name without suffix expected")
    network = load_frozen(model, choose_device(device))[0] if independent else None
    sampler = make_sampler(section, feature_function(network) if independent else None)
    frames = system_frames([{"path": str(s), "pbc": pbc, "field": field} for s in sources])
    if not frames:
        raise InputError("sample: no frame found in the densities given")
    for option, n in (exactly or {}).items():
        for frame in frames:
            if frame.n_points < n:
                raise InputError(f"{option}: {n} points asked for, {frame.name} has {frame.n_points}")
    shells, weights, counts = Shells(), [], []
    with PointWriter(target, dtype) as writer:
        for number, frame in enumerate(track(frames, desc="sampling", unit="frames")):
            density = frame.read()
            if independent:
                check_frame(density, network.config["target"], network.type_map)
            index, weight = draw(sampler, density, seed, number)
            values = density.values_at(index)
            source = {"file": frame.name}
            writer.append(
                PointDensity(density.structure, density.points(index), values, weight, density.kind, source)
            )  # fmt: skip
            shells.add(density.values_at(slice(None))[0], index)
            weights.append(weight)
            counts.append(len(index))
    tell_sample(
        section["type"], sampler, np.repeat(np.arange(len(frames)), counts), np.concatenate(weights),
        section["points_per_frame"],
    )  # fmt: skip
    for line in shells.lines():
        log.info(line)
    log.info(f"{target}: {counted(len(frames), 'frame')}, {sum(counts)} points written")
    return shells
