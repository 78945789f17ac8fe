"""Training points drawn anew at every step, from frames that rotate through memory. Sampler `fresh`, as DeepDFT trains.

All frames form an endless sequence: every one in a random order, then in another one, and so on. At a step the pool is
the frames k .. k + size - 1 of it; k grows by one every `rotate` steps, not at all where all frames fit. A step takes
some frames of the pool and uniform points of their whole grids, with replacement. Pool, frames and points are functions
of seed and step alone: a restart continues the same curve, and a checkpoint holds nothing of them.

A thread reads the frames that come next while steps are computed; files are read, decompressed and parsed without
Python's lock. A member of a plain tar file is read from its place, nothing is unpacked to disk.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from .dataset import Samples, check_frame, collect
from .errors import counted, log

AHEAD = 4  # frames read beyond the pool
LONG = 0.02  # share of the time lost in waiting for data that is worth a warning


class Pool:
    """Points of every step: called with its number.

    frames  of a system (`io.open_system`); config: the normalised input
    """

    def __init__(self, frames, config: dict):
        training = config["training"]
        data, sampler = training["training_data"], training["sampler"]
        self.reading, self.seed, self.rotate = frames, training["seed"], sampler["rotate"]
        self.target, self.type_map = config["model"]["target"], config["model"]["type_map"]
        self.dtype = np.dtype(config["model"]["precision"])
        self.size = min(sampler["pool"], len(frames))
        self.frames = min(data["frames_per_batch"] or self.size, self.size)
        self.each = max(1, data["batch_size"] // self.frames)
        self.held: dict[int, Future] = {}  # place in the sequence -> density, read or being read
        self.thread: ThreadPoolExecutor | None = None
        self.waited = 0.0
        self._order = lru_cache(maxsize=2)(self._order)

    @property
    def per_epoch(self) -> int:
        """Steps in which every frame is drawn about once."""
        return max(1, len(self.reading) // self.frames)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.reading))

    def number(self, place: int) -> int:
        """Number of the frame at a place in the sequence."""
        epoch, position = divmod(place, len(self.reading))
        return int(self._order(epoch)[position])

    def first(self, step: int) -> int:
        """Place in the sequence of the pool's first frame."""
        return step // self.rotate if self.size < len(self.reading) else 0

    def _read(self, place: int):
        density = self.reading[self.number(place)].read(self.dtype)
        check_frame(density, self.target, self.type_map)
        return density

    def _fill(self, step: int) -> int:
        """Give back what has left the pool and ask for what comes; returns the place of the first frame."""
        first = self.first(step)
        ahead = AHEAD if self.size < len(self.reading) else 0
        wanted = range(first, first + self.size + ahead)
        for place in [p for p in self.held if p not in wanted]:
            self.held.pop(place).cancel()
        if self.thread is None:
            self.thread = ThreadPoolExecutor(1, "reading")
        for place in wanted:
            if place not in self.held:
                self.held[place] = self.thread.submit(self._read, place)
        return first

    def _density(self, place: int):
        found = self.held[place]
        if not found.done():
            start = time.perf_counter()
            found.exception()  # waits
            self.waited += time.perf_counter() - start
        return found.result()

    def __call__(self, step: int) -> Samples:
        """The points of a step: frames_per_batch frames, batch_size points. InputError for a file that is damaged."""
        first, rng = self._fill(step), np.random.default_rng([self.seed, step])
        structures, drawn = [], []
        for slot in np.sort(rng.choice(self.size, self.frames, replace=False)):
            density = self._density(first + int(slot))
            index = np.sort(rng.integers(density.n_points, size=self.each))
            own = getattr(density, "weight", None)  # of point data
            weight = np.ones(self.each) if own is None else own[index] / own.mean()
            structures.append(density.structure)
            drawn.append((density.points(index), density.values_at(index)[:1].T.astype(np.float64), weight, index))
        return collect(structures, drawn)

    def tell(self, seconds: float) -> None:
        """Log how long steps waited for data, of `seconds` of training."""
        text = f"training data: steps waited {self.waited:.1f} s of {seconds:.1f} s for frames to be read"
        if self.waited > LONG * seconds:
            log.warning(f"{text}; a larger training/sampler/rotate (now {self.rotate}) asks for fewer")
        else:
            log.info(text)

    def close(self) -> None:
        """Read no more, and give memory back; a further call begins anew."""
        if self.thread is not None:
            self.thread.shutdown(wait=False, cancel_futures=True)
        self.thread = None
        self.held.clear()

    def __str__(self) -> str:
        rotating = f", {self.size} of them in memory, one replaced every {counted(self.rotate, 'step')}"
        return (
            f"{counted(len(self.reading), 'frame')}{rotating if self.size < len(self.reading) else ''}; every step "
            f"{self.each} fresh points of each of {self.frames}"
        )
