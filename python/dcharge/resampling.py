"""Training points chosen by the model that is trained: sample, train, sample again. Sampler `independent`."""

from __future__ import annotations

from functools import reduce
from operator import getitem

import numpy as np
import torch

from . import checkpoint
from .batch import Batch
from .dataset import Samples, collect, held_out, points_of_frame, tell_sample, training_frames
from .errors import InputError, counted, log
from .models import Model
from .progress import track
from .sampling import frame_rng, make_sampler, with_own_weights

CHUNK = 8192


def feature_function(model: Model):
    """Function (structure, points # [n, 3] float64, Angstrom) -> features of a model as it is then, [n, d] float64."""

    @torch.no_grad()
    def features(structure, points) -> np.ndarray:
        cache = model.encode(Batch.collate([structure], model.type_map, model.device))
        points = torch.as_tensor(points, device=model.device)
        frame = torch.zeros(len(points), dtype=torch.int64, device=model.device)
        parts = zip(points.split(CHUNK), frame.split(CHUNK), strict=True)
        return np.concatenate([model.features(cache, p, f).cpu().numpy() for p, f in parts])

    return features


class Resampling:
    """The training points of one run. Training is parted into cycles of equal length; at the beginning of each, points
    are chosen by the features of the model so far (in the first one: calibrated, not trained).

    The candidates of a frame are a function of seed, cycle and frame. What is chosen of them depends on the weights
    then, so a checkpoint holds it, and a restart reads the same points.

    samples  the training points of the cycle; None before the first one
    held     the share `validation_data/fraction` of the first cycle's points, None without that key
    """

    def __init__(self, config: dict, model: Model):
        training = config["training"]
        self.seed, self.fraction = training["seed"], training["validation_data"]["fraction"]
        self.steps = training["numb_steps"]
        self.sampler = make_sampler(training["sampler"], feature_function(model))
        self.frames = training_frames(config)
        self.cycle, self.samples, self.held = -1, None, None

    def first(self, config: dict, content: dict | None, path) -> Samples:
        """The points that a run begins with: those of the checkpoint `content` (its file: `path`) where its input
        chooses points as this one does, else chosen by the model as it is."""
        if content is None or "sample/index" not in content:
            return self.draw(0 if content is None else checkpoint.section(content, "run")["step"])
        saved, mine = (c["training"] for c in (checkpoint.section(content, "config"), config))
        keys = ("sampler",), ("seed",), ("training_data", "systems"), ("validation_data", "fraction")
        if any(reduce(getitem, k, saved) != reduce(getitem, k, mine) for k in keys):
            return self.draw(checkpoint.section(content, "run")["step"])
        return self.restore(content, path)

    def cycle_at(self, position: int) -> int:
        """Number of the cycle that a step (or place in the schedule) lies in."""
        return min(position * self.sampler.cycles // self.steps, self.sampler.cycles - 1)

    def due(self, position: int) -> bool:
        """Whether a new cycle begins at this step (or place in the schedule)."""
        return self.cycle_at(position) > self.cycle

    def draw(self, position: int) -> Samples:
        """The training points of the cycle that `position` lies in, chosen by the model as it is."""
        s, self.cycle = self.sampler, self.cycle_at(position)
        asked = s.points_per_frame * (self.cycle + 1) // s.cycles if s.accumulate else s.points_per_frame
        structures, drawn = [], []
        for number, frame in enumerate(track(self.frames, desc="choosing points", unit="frames")):
            density = frame.read()
            structures.append(density.structure)
            drawn.append(points_of_frame(density, *self._chosen(density, number, asked)))
        self.samples = collect(structures, drawn)
        text = f" in cycle {self.cycle + 1} of {s.cycles}" if s.cycles > 1 else ""
        log.info(f"training data: {counted(len(self.frames), 'frame')}, {len(self.samples)} points{text}")
        asked -= 0 if self.held is None else np.bincount(self.held.frame, minlength=len(self.frames))
        tell_sample("independent", s, self.samples.frame.numpy(), self.samples.weight.numpy(), asked)
        if self.fraction and self.held is None:
            self.samples, self.held = held_out(self.samples, self.fraction, self.seed)
        return self.samples

    def _chosen(self, density, number: int, asked: int):
        """Index and weight of one frame's points: those at hand, where they accumulate, and new ones up to `asked`."""
        index, weight = self._of(self.samples if self.sampler.accumulate else None, number)
        taken = np.concatenate([index, self._of(self.held, number)[0]])
        new = self.sampler.choose(density, frame_rng(self.seed, number, self.cycle), asked - len(taken), taken)
        new = with_own_weights(density, *new)
        index, weight = np.concatenate([index, new[0]]), np.concatenate([weight, new[1]])
        order = np.argsort(index)
        return index[order], weight[order] / weight.mean() if len(weight) else weight

    @staticmethod
    def _of(samples: Samples | None, number: int):
        """Index and weight (numpy) of one frame's points."""
        if samples is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        mine = samples.frame == number
        return samples.index[mine].numpy(), samples.weight[mine].numpy()

    def content(self) -> dict:
        """What a checkpoint holds of it: the number of the cycle, and the points by their numbers within a frame."""
        out = {"sample/cycle": torch.tensor(self.cycle)}
        for name, samples in (("sample", self.samples), ("held", self.held)):
            if samples is not None:
                count = torch.bincount(samples.frame, minlength=len(self.frames))
                out |= {f"{name}/index": samples.index, f"{name}/weight": samples.weight, f"{name}/count": count}
        return out

    def restore(self, content: dict, path) -> Samples:
        """The training points of a checkpoint. Raises InputError where the frames are no longer those."""
        self.cycle = int(content["sample/cycle"])
        self.samples = self._read(checkpoint.tensors(content, "sample"), path)
        if "held/index" in content:
            self.held = self._read(checkpoint.tensors(content, "held"), path)
        return self.samples

    def _read(self, stored: dict, path) -> Samples:
        counts = stored["count"].tolist()
        if len(counts) != len(self.frames):
            raise InputError(
                f"{path}: training points of {counted(len(counts), 'frame')}, but training/training_data/systems "
                f"holds {len(self.frames)}"
            )
        structures, drawn = [], []
        parts = zip(self.frames, stored["index"].cpu().split(counts), stored["weight"].cpu().split(counts), strict=True)
        for frame, index, weight in track(parts, total=len(counts), desc="reading systems", unit="frames"):
            density = frame.read()
            if len(index) and int(index.max()) >= density.n_points:
                raise InputError(f"{path}: point {int(index.max())} of {frame.name}, which has {density.n_points}")
            structures.append(density.structure)
            drawn.append(points_of_frame(density, index.numpy(), weight.numpy()))
        return collect(structures, drawn)
