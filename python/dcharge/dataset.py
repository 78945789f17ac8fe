"""Training data: the sampled points of every frame of the given systems, as flat tensors."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .batch import Batch
from .errors import InputError, counted, log, say_once
from .io import open_system
from .progress import track
from .sampling import Random, Stratified, draw, effective_size
from .structure import Structure


@dataclass
class Samples:
    """Sampled points of several frames, frame by frame.

    structures  the frames' structures, in order
    points      # [n, 3] float64, Angstrom
    frame       # [n] int64, non-decreasing
    target      # [n, 1], e/Angstrom^3 (total density)
    weight      # [n], mean 1 per frame
    """

    structures: list[Structure]
    points: Tensor
    frame: Tensor
    target: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: Tensor) -> Samples:
        """The points with index `keep`; all structures stay, so that frame numbers hold."""
        return Samples(self.structures, *(t[keep] for t in (self.points, self.frame, self.target, self.weight)))

    def to(self, device) -> Samples:
        """The same on another device."""
        return Samples(self.structures, *(t.to(device) for t in (self.points, self.frame, self.target, self.weight)))

    def batch(self, type_map, device) -> Batch:
        """All structures as one flat batch."""
        return Batch.collate(self.structures, type_map, device)


def system_frames(entries, where: str = "") -> list:
    """Frames of systems given as paths or {"path", "pbc", "field"}; errors begin with `where`, a place in an input."""
    frames = []
    for i, entry in enumerate(entries):
        entry = {"path": entry} if isinstance(entry, str) else entry
        try:
            frames += open_system(entry["path"], pbc=entry.get("pbc"), field=entry.get("field")).frames
        except InputError as error:
            raise InputError(f"{where}/{i}: {error}" if where else str(error)) from error
    return frames


def sample_frame(density, sampler, seed: int, number: int):
    """One frame's sample: points [n, 3], total density [n, 1], weight [n] (numpy)."""
    index, weight = draw(sampler, density, seed, number)
    return density.points(index), density.values_at(index)[:1].T.astype(np.float64), weight


def check_frame(density, target: str, type_map) -> None:
    """Raise InputError where a frame does not fit the model: another kind of density, a response without a
    field, a species not in type_map, coincident atoms."""
    if density.kind != target:
        raise InputError(f"{density.name}: holds a {density.kind}, but model/target is '{target}'")
    if target == "response" and density.structure.field is None:
        raise InputError(f"{density.name}: a response, but no electric field is known; give it (--field, or field)")
    try:
        density.structure.types(type_map)
        density.structure.check_apart()
    except InputError as error:
        raise InputError(f"{density.name}: {error}") from error
    if len(density.values) > 1:
        say_once("spin", f"{density.name}: spin-polarised; the total density is used")


def load_samples(frames, sampler, seed: int, type_map, target: str, calibration: int = 0):
    """Read every frame once and draw its points -> (Samples, calibration Samples or None).

    The calibration sample (`calibration` points in all) is stratified whatever the sampler, because baseline
    and standardisation need points near every nucleus.
    """
    drawn, extra, structures = [], [], []
    near = Stratified(max(1, calibration // max(1, len(frames))))
    for number, frame in enumerate(track(frames, desc="reading systems", unit="frames")):
        density = frame.read()
        check_frame(density, target, type_map)
        structures.append(density.structure)
        drawn.append(sample_frame(density, sampler, seed, number))
        if calibration:
            extra.append(sample_frame(density, near, seed + 1, number))
    return _collect(structures, drawn), _collect(structures, extra) if calibration else None


def tell_sample(name: str, sampler, frame, weight) -> None:
    """Log what a sampler did: effective sample size, frames with fewer points than asked for, weights clipped.

    name: its type; frame # [n] int64, weight # [n]: of the points drawn
    """
    counts = np.bincount(frame)
    effective = np.mean([effective_size(w) for w in np.split(weight, np.cumsum(counts)[:-1])])
    text = f"{name} sampler: effective sample size {effective:.0f} of {counts.mean():.0f} points of a frame"
    if np.any(short := counts < sampler.points_per_frame):
        text += f"; {counted(int(short.sum()), 'frame')} of {len(counts)} with fewer than {sampler.points_per_frame}"
    if clipped := getattr(sampler, "clipped", [0, 0])[1]:
        share = 100 * clipped / sampler.clipped[0]
        text += f"; {share:.2g} % of the weights clipped at {sampler.max_weight:g} times the mean"
    log.info(text)


def _collect(structures, drawn) -> Samples:
    counts = torch.tensor([len(d[0]) for d in drawn], dtype=torch.int64)
    points, target, weight = (torch.as_tensor(np.concatenate(x)) for x in zip(*drawn, strict=True))
    frame = torch.repeat_interleave(torch.arange(len(drawn)), counts)
    return Samples(structures, points, frame, target, weight)


def training_and_validation(config: dict) -> tuple[Samples, Samples | None, Samples]:
    """Training, validation (or None) and calibration samples of a normalised input."""
    from .sampling import make_sampler

    model, training = config["model"], config["training"]
    seed, type_map, target = training["seed"], model["type_map"], model["target"]
    sampler = make_sampler(training["sampler"])
    frames = system_frames(training["training_data"]["systems"], "training/training_data/systems")
    if not frames:
        raise InputError("training/training_data/systems: no frame found")
    samples, calibration = load_samples(frames, sampler, seed, type_map, target, calibration=50_000)
    log.info(f"training data: {counted(len(frames), 'frame')}, {len(samples)} points")
    tell_sample(training["sampler"]["type"], sampler, samples.frame.numpy(), samples.weight.numpy())

    section = training["validation_data"]
    known = {(os.path.realpath(f.path), f.name) for f in frames}
    frames = system_frames(section["systems"], "training/validation_data/systems")
    validation = None
    if frames:
        both = [f.name for f in frames if (os.path.realpath(f.path), f.name) in known]
        if both:
            log.warning(f"validation data: {both[0]} is training data too; 'best' will not mean best on unseen frames")
        # uniform points: their NMAE estimates that of the full grid
        uniform = Random(training["sampler"]["points_per_frame"])
        validation, _ = load_samples(frames, uniform, seed + 2, type_map, target)
        log.info(f"validation data: {counted(len(frames), 'frame')}, {len(validation)} points")
    elif section["fraction"] > 0:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(samples), generator=generator)
        n = max(1, int(round(section["fraction"] * len(samples))))
        if n >= len(samples):
            raise InputError(f"training/validation_data/fraction: no point of {len(samples)} is left for training")
        validation = samples.select(order[:n].sort()[0])
        samples = samples.select(order[n:].sort()[0])
        log.info(f"validation data: {n} of the training points, held out")
    return samples, validation, calibration
