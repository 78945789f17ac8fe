"""Training data: the sampled points of every frame of the given systems, as flat tensors."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .batch import Batch
from .errors import InputError, counted, log, nearest, say_once
from .io import open_system
from .models import Model
from .progress import track
from .sampling import Random, Stratified, draw, effective_size, make_sampler
from .structure import Structure, warn_of_field

LEAST_VALIDATION = 2000  # points of a validation frame: fewer do not tell which checkpoint is the best
FRESH_VALIDATION = 5000  # the same where training points are drawn anew at every step (DeepDFT's public code)
CALIBRATION_FRAMES = 200  # read for baseline and standardisation where frames rotate through memory


@dataclass
class Samples:
    """Sampled points of several frames, frame by frame.

    structures  the frames' structures, in order
    points      # [n, 3] float64, Angstrom
    frame       # [n] int64, non-decreasing
    target      # [n, 1], e/Angstrom^3 (total density)
    weight      # [n], mean 1 per frame
    index       # [n] int64, number of the point among all of its frame, increasing within a frame
    """

    structures: list[Structure]
    points: Tensor
    frame: Tensor
    target: Tensor
    weight: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: Tensor) -> Samples:
        """The points with index `keep`; all structures stay, so that frame numbers hold."""
        return Samples(self.structures, *(t[keep] for t in self._tensors()))

    def shuffled(self, seed: int) -> Samples:
        """The points in random order: the first n of them are a fair sample of all frames."""
        return self.select(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)))

    def to(self, device) -> Samples:
        """The same on another device."""
        return Samples(self.structures, *(t.to(device) for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.points, self.frame, self.target, self.weight, self.index

    def batch(self, type_map, device) -> Batch:
        """All structures as one flat batch."""
        return Batch.collate(self.structures, type_map, device)


def system_frames(entries, where: str = "") -> list:
    """Frames of systems given as paths or {"path", "pbc", "field", "frames"}; errors begin with `where`, a place in an
    input."""
    frames = []
    for i, entry in enumerate(entries):
        entry = {"path": entry} if isinstance(entry, str) else entry
        try:
            found = open_system(entry["path"], pbc=entry.get("pbc"), field=entry.get("field")).frames
            frames += chosen_frames(found, entry.get("frames"), entry["path"])
        except InputError as error:
            raise InputError(f"{where}/{i}: {error}" if where else str(error)) from error
    return frames


def chosen_frames(frames: list, numbers, path) -> list:
    """Those of a system's frames that `numbers` names: integers from 0, "FILE.json:KEY" of such a list, or None (all).

    InputError where there is no such list, or a number is out of range or named twice.
    """
    if numbers is None:
        return frames
    words = "frames"
    if isinstance(numbers, str):
        file, _, name = numbers.rpartition(":")
        words = f"frames '{numbers}'"
        try:
            held = json.loads(Path(file).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{words}: FILE.json:KEY of a readable file expected ({error})") from None
        if not isinstance(held, dict) or name not in held:
            hint = nearest(name, held) if isinstance(held, dict) else ""
            raise InputError(f"{words}: no key '{name}' in {file}{hint}")
        numbers = held[name]
        if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
            raise InputError(f"{words}: a list of integers expected there")
    if not numbers:
        raise InputError(f"{words}: an empty list; one or more numbers of frames expected")
    wrong = [n for n in numbers if not 0 <= n < len(frames)]
    if wrong:
        raise InputError(f"{words}: {path} has frames 0 to {len(frames) - 1}, {wrong[0]} is none of them")
    if len(set(numbers)) < len(numbers):
        twice = next(n for i, n in enumerate(numbers) if n in numbers[:i])
        raise InputError(f"{words}: {twice} stands there twice")
    return [frames[n] for n in numbers]


def sample_frame(density, sampler, seed: int, number: int):
    """One frame's sample (numpy): points [n, 3], total density [n, 1], weight [n], index [n]. No sampler: no point."""
    index, weight = (
        (np.zeros(0, dtype=np.int64), np.zeros(0)) if sampler is None else draw(sampler, density, seed, number)
    )
    return points_of_frame(density, index, weight)


def points_of_frame(density, index, weight):
    """What a frame adds to Samples: points [n, 3], total density [n, 1], weight [n], index [n]."""
    return density.points(index), density.values_at(index)[:1].T.astype(np.float64), weight, index


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
    and standardisation need points near every nucleus. Without a sampler (None) only structures are read.
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
    return collect(structures, drawn), collect(structures, extra) if calibration else None


def tell_sample(name: str, sampler, frame, weight, asked) -> None:
    """Log what a sampler did: effective sample size, frames with fewer points than asked for, weights clipped.

    name: its type; frame # [n] int64, weight # [n]: of the points drawn; asked: points of every frame, or of each
    """
    counts = np.bincount(frame)
    effective = np.mean([effective_size(w) for w in np.split(weight, np.cumsum(counts)[:-1])])
    text = f"{name} sampler: effective sample size {effective:.0f} of {counts.mean():.0f} points of a frame"
    if np.any(short := counts < asked):
        text += f"; {counted(int(short.sum()), 'frame')} of {len(counts)} with fewer than asked for"
    sampler = getattr(sampler, "candidates", sampler)
    if clipped := getattr(sampler, "clipped", [0, 0])[1]:
        share = 100 * clipped / sampler.clipped[0]
        text += f"; {share:.2g} % of the weights clipped at {sampler.max_weight:g} times the mean"
    log.info(text)


def collect(structures, drawn) -> Samples:
    """Samples of structures and what `points_of_frame` gave for each."""
    counts = torch.tensor([len(d[0]) for d in drawn], dtype=torch.int64)
    points, target, weight, index = (torch.as_tensor(np.concatenate(x)) for x in zip(*drawn, strict=True))
    frame = torch.repeat_interleave(torch.arange(len(drawn)), counts)
    return Samples(structures, points, frame, target, weight, index)


def held_out(samples: Samples, fraction: float, seed: int) -> tuple[Samples, Samples]:
    """The points in two parts: training, and a share `fraction` for validation."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    n = max(1, int(round(fraction * len(samples))))
    if n >= len(samples):
        raise InputError(f"training/validation_data/fraction: no point of {len(samples)} is left for training")
    log.info(f"validation data: {n} of the training points, held out")
    return samples.select(order[n:].sort()[0]), samples.select(order[:n].sort()[0])


def training_frames(config: dict) -> list:
    """Frames of training/training_data of a normalised input; InputError where there is none."""
    frames = system_frames(config["training"]["training_data"]["systems"], "training/training_data/systems")
    if not frames:
        raise InputError("training/training_data/systems: no frame found")
    return frames


def training_and_validation(config: dict) -> tuple[Samples, Samples | None, Samples]:
    """Training, validation (or None) and calibration samples of a normalised input.

    With the samplers `independent` (`resampling.py`) and `fresh` (`pool.py`) no training point is drawn yet, nor held
    out; with `fresh` the structures are those of the frames read for calibration.
    """
    model, training = config["model"], config["training"]
    seed, type_map, target = training["seed"], model["type_map"], model["target"]
    section, fraction = training["sampler"], training["validation_data"]["fraction"]
    later = section["type"] in ("independent", "fresh")
    frames = training_frames(config)
    sampler, read = None if later else make_sampler(section), frames
    if section["type"] == "fresh" and len(frames) > CALIBRATION_FRAMES:
        some = np.random.default_rng([seed, 0, 2]).choice(len(frames), CALIBRATION_FRAMES, replace=False)
        read = [frames[i] for i in np.sort(some)]
        log.info(f"training data: calibration by {CALIBRATION_FRAMES} of {len(frames)} frames")
    samples, calibration = load_samples(read, sampler, seed, type_map, target, calibration=50_000)
    if not later:
        log.info(f"training data: {counted(len(frames), 'frame')}, {len(samples)} points")
        tell_sample(
            section["type"], sampler, samples.frame.numpy(), samples.weight.numpy(), sampler.points_per_frame
        )  # fmt: skip

    known = {(os.path.realpath(f.path), f.name) for f in frames}
    frames = system_frames(training["validation_data"]["systems"], "training/validation_data/systems")
    validation = None
    if frames:
        both = [f.name for f in frames if (os.path.realpath(f.path), f.name) in known]
        if both:
            log.warning(f"validation data: {both[0]} is training data too; 'best' will not mean best on unseen frames")
        # uniform points: their NMAE estimates that of the full grid
        uniform = Random(max(LEAST_VALIDATION, section.get("points_per_frame", FRESH_VALIDATION)))
        validation, _ = load_samples(frames, uniform, seed + 2, type_map, target)
        log.info(f"validation data: {counted(len(frames), 'frame')}, {len(validation)} points")
    elif fraction > 0 and not later:
        samples, validation = held_out(samples, fraction, seed)
    return samples, validation, calibration


def warn_of_data(model: Model, structures, whole: bool = True) -> list[str] | None:
    """Say what the training structures hold and the model cannot see, and what the model should know and they lack.

    whole: whether these are all of them. Returns the species that are learned; None where that is not known
    """
    if not model.sees_field and any(s.field is not None and s.field.any() for s in structures):
        log.warning(
            f"training data: frames with an electric field, which the model ({model.config['type']}) does not see: "
            "it learns a mean over fields"
        )
    if model.sees_field:
        if not any(s.field is not None and s.field.any() for s in structures):
            log.warning("training data: model/field is true, but no frame has an electric field: not learned")
        for s in structures:
            warn_of_field(s, f"training data: {s.formula}")
    seen = {symbol for s in structures for symbol in s.symbols}
    lacking = [symbol for symbol in model.type_map if symbol not in seen]
    if lacking and whole:
        log.warning(f"training data: no atom of {', '.join(lacking)}, which model/type_map names: not learned")
    return sorted(seen) if whole else None
