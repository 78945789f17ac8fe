"""What a step is fed: batches, cached geometry, frames of a validation."""

import numpy as np
import pytest
import torch
from tiny import model_config, structure

from dcharge.dataset import Samples
from dcharge.minibatch import Batches, GeometryCache, whole_frames
from dcharge.models import make_model


def samples(counts) -> Samples:
    n = sum(counts)
    frame = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Samples([structure(0)] * len(counts), torch.zeros(n, 3), frame, torch.zeros(n, 1), torch.ones(n), frame)


def test_batches_cover_an_epoch():
    batches = Batches(samples([30, 10, 20]), 12, 0, seed=1)
    epoch = [batches(i) for i in range(5)]
    assert torch.cat(epoch).sort()[0].tolist() == list(range(60))
    assert not torch.equal(torch.cat(epoch), torch.cat([batches(i) for i in range(5, 10)]))
    assert torch.equal(batches(3), epoch[3])  # a function of the step, also backwards
    assert not torch.equal(Batches(samples([30, 10, 20]), 12, 0, seed=2)(3), epoch[3])
    assert len(Batches(samples([3]), 4096, 0, seed=1)(7)) == 3


def test_batches_of_frames():
    data = samples([30, 0, 10, 20])
    batches = Batches(data, 12, 2, seed=1)
    seen, steps = set(), [batches(step) for step in range(40)]
    for index in steps:
        frames = set(data.frame[index].tolist())
        assert len(index) == 12 == len(set(index.tolist())) and len(frames) == 2
        seen |= frames
    assert seen == {0, 2, 3}
    assert set(torch.cat(steps).tolist()) == set(range(60))
    again = Batches(data, 12, 2, seed=1)
    assert all(torch.equal(again(step), steps[step]) for step in (39, 7, 8))  # a function of the step, also backwards
    assert all(len(Batches(samples([0, 5, 0]), 4, 1, seed=s)(0)) == 4 for s in range(10))


def test_partial_cache_mixes_right():
    model = make_model(model_config())
    s = structure(0)
    points = torch.tensor(np.random.default_rng(0).uniform(0, 5, (20, 3)))
    zero, ones = torch.zeros(20, dtype=torch.int64), torch.ones(20)
    data = Samples([s], points, zero, torch.zeros(20, 1), ones, torch.arange(20))
    batch = data.batch(model.type_map, "cpu")
    one = 2 * 4 * 12 * 4
    caches = [GeometryCache(model, data, batch, budget) for budget in (20 * one, 7 * one + 1, 0)]
    index = torch.tensor([3, 19, 0, 7, 6])
    assert [0 if c.stored is None else len(c.stored) for c in caches] == [20, 7, 0]
    for cache in caches:
        torch.testing.assert_close(cache(index), model.geometry(batch, points[index], data.frame[index]))


@pytest.mark.parametrize(
    "counts, size, expected",
    [
        ([5], 10, [([0], [5])]),
        ([25], 10, [([0], [10, 10, 5])]),
        ([4, 0, 6, 1], 10, [([0, 2], [10]), ([3], [1])]),
        ([3, 25, 2, 2], 10, [([0], [3]), ([1], [10, 10, 5]), ([2, 3], [4])]),
    ],
)
def test_no_frame_stands_in_two_groups(counts, size, expected):
    frame = samples(counts).frame
    groups = whole_frames(frame, size)
    assert [(frames.tolist(), [len(p) for p in parts]) for frames, parts in groups] == expected
    assert torch.cat([p for _, parts in groups for p in parts]).tolist() == list(range(len(frame)))
    for frames, parts in groups:
        assert set(frame[torch.cat(parts)].tolist()) == set(frames.tolist())
