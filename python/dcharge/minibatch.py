"""What a training step is fed: which points, and their cached geometry."""

from __future__ import annotations

import torch
from torch import Tensor

from .dataset import Samples
from .errors import log
from .models import Model
from .progress import track

CHUNK = 8192


class GeometryCache:
    """Parameter-free geometry of sampled points, kept up to `budget` bytes and computed again beyond it."""

    def __init__(self, model: Model, samples: Samples, batch, budget: float):
        self.model, self.samples, self.batch = model, samples, batch
        self.stored: Tensor | None = None
        if not len(samples):
            return
        probe = self._compute(slice(0, 1))
        if probe is None or budget <= 0:
            return
        n = min(len(samples), int(budget // (probe.numel() * probe.element_size())))
        if n < len(samples):
            log.info(f"cache_gb holds {n} of {len(samples)} points; the others are computed at every step")
        if n == 0:
            return
        self.stored = probe.new_empty((n, *probe.shape[1:]))
        for start in track(range(0, n, CHUNK), desc="radial moments", unit="blocks"):
            stop = min(start + CHUNK, n)
            self.stored[start:stop] = self._compute(slice(start, stop))

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return 0 if self.stored is None else self.stored.nbytes

    def _compute(self, index):
        return self.model.geometry(self.batch, self.samples.points[index], self.samples.frame[index])

    def __call__(self, index: Tensor) -> Tensor | None:
        """Geometry of the points `index` [n]."""
        if self.stored is None:
            return self._compute(index)
        n = len(self.stored)
        if n == len(self.samples):
            return self.stored[index]
        held = index < n
        out = self.stored.new_empty((len(index), *self.stored.shape[1:]))
        out[held] = self.stored[index[held]]
        out[~held] = self._compute(index[~held])
        return out


class Batches:
    """Point indices of every step, on the device of the samples.

    A function of seed and step alone, the same on every device: a restart continues the same sequence. Without
    frames_per_batch the order of an epoch is copied to the device once, and no batch waits for it.
    """

    def __init__(self, samples: Samples, batch_size: int, frames_per_batch: int, seed: int):
        self.n, self.seed, self.device = len(samples), seed, samples.points.device
        self.size = min(batch_size, self.n)
        if batch_size > self.n:
            log.warning(f"training_data/batch_size {batch_size}: there are only {self.n} points, a step takes them all")
        counts = torch.bincount(samples.frame.cpu(), minlength=len(samples.structures))
        self.ranges = list(zip(counts.tolist(), (torch.cumsum(counts, 0) - counts).tolist(), strict=True))
        self.filled = torch.nonzero(counts)[:, 0]  # held-out points may be all of a frame's
        self.frames = min(frames_per_batch, len(self.filled))
        self.epoch, self.order = -1, None
        self.orders: dict[int, tuple[int, Tensor]] = {}  # with frames_per_batch: number and order of every frame

    @property
    def per_epoch(self) -> int:
        """Steps in which every point (with frames_per_batch: every frame) is drawn once."""
        return max(1, len(self.filled) // self.frames if self.frames else self.n // self.size)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)

    def _of_frame(self, frame: int, step: int, each: int) -> Tensor:
        """Indices [each] of points of a frame: a part of an order drawn for as many steps as it has parts.

        An order of its own for every step took longer than the step: the time goes with all points of the frame.
        """
        count, start = self.ranges[frame]
        number, part = divmod(step, max(1, count // each))
        if self.orders.get(frame, (-1,))[0] != number:
            g = self._generator((number * len(self.ranges) + frame + 1) * 1_000_000_007)
            self.orders[frame] = number, start + torch.randperm(count, generator=g)
        return self.orders[frame][1][part * each : (part + 1) * each]

    def __call__(self, step: int) -> Tensor:
        """Indices [batch_size] into the samples."""
        if self.frames:
            g = self._generator(step)
            chosen = self.filled[torch.randperm(len(self.filled), generator=g)[: self.frames]]
            each = max(1, self.size // len(chosen))
            index = [self._of_frame(f, step, each) for f in chosen.tolist()]
            return torch.cat(index).to(self.device, non_blocking=True)
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            order = torch.randperm(self.n, generator=self._generator(epoch))
            self.epoch, self.order = epoch, order.to(self.device)
        return self.order[position * self.size : (position + 1) * self.size]


def whole_frames(frame: Tensor, size: int) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Points of many frames in parts of at most `size`, in their order, so that no frame is encoded twice.

    frame # [n] int64, increasing -> [(frames # [m] int64, points in parts # [<= size] int64)], on the same device:
    a frame with more points than `size` alone, in several parts; others together as long as their points fit in one.
    """
    groups, stop = [], 0  # [numbers of frames], index of their first point
    numbers, counts = (x.tolist() for x in torch.unique_consecutive(frame, return_counts=True))
    for number, count in zip(numbers, counts, strict=True):
        if groups and stop + count - groups[-1][1] <= size:
            groups[-1][0].append(number)
        else:
            groups.append(([number], stop))
        stop += count
    ends = [start for _, start in groups[1:]] + [stop]
    return [
        (torch.tensor(numbers, device=frame.device), torch.arange(start, end, device=frame.device).split(size))
        for (numbers, start), end in zip(groups, ends, strict=True)
    ]
