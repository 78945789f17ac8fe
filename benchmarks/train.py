"""Training steps at the paper's sizes, beside naive torch and beside a counted limit.

    python -m benchmarks.train [--batch 4096 1024] [--steps 8] [--repeats 5] [--threads 1 2]
                               [--systems silicon water] [--quick]

dcharge: `Trainer.train_step` on a made-up density, moments of the sampled points cached as by default; everything a
step does (choosing points, loss, backward pass, Adam, errors). Naive torch: the paper's model with every tensor
materialised (benchmarks/naive.py), forward, backward and Adam, in chunks of points that fit the caches. Rounds
alternate, medians. The limit: three times (forward, and two products backward) the matrix products P.C, Gram and
fitting net of a forward pass, at the rate of torch's best float32 matrix product measured in the same rounds, and all
the rest for nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from .cases import RCUT, SYSTEMS, interleaved, keep_memory, made_up_density, rate, report, threads_label
from .naive import CHUNK, Naive, paper_model
from .predict import Matrices, contraction_flop, fitting_flop

TARGET = 60e3  # points/s on two cores, batches of BATCH points
BATCH, POINTS = 4096, 20000


def made_up_training(structure, folder: Path, batch: int, steps: int):
    """A Trainer on a made-up density of the structure, written to and read from `folder`."""
    from dcharge import Density, Grid
    from dcharge.config import normalize
    from dcharge.io import write
    from dcharge.train import Trainer

    grid = Grid((40,) * 3, structure.cell)
    density = Density(structure, grid, made_up_density(structure, grid.points()).reshape(grid.shape))
    write(density, folder / "rho.h5")
    config = {
        "model": {
            "type": "deep_charge",
            "type_map": sorted(set(structure.symbols)),
            "descriptor": {"rcut": RCUT},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {
            "numb_steps": steps,
            "device": "cpu",
            "sampler": {"points_per_frame": POINTS},
            "training_data": {"systems": [str(folder / "rho.h5")], "batch_size": batch},
            "save_ckpt": str(folder / "model.ckpt"),
            "disp_file": str(folder / "lcurve.out"),
        },
    }
    return Trainer(normalize(config))


class NaiveTraining:
    """Training steps of the naive model on random points, all tensors materialised."""

    def __init__(self, structure, batch: int):
        model = paper_model(structure).requires_grad_(True).train()
        self.naive = Naive(model, structure)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        generator = torch.Generator().manual_seed(0)
        points = torch.rand((batch, 3), generator=generator, dtype=torch.float64) @ torch.as_tensor(structure.cell)
        self.parts = points.split(CHUNK)
        self.target = torch.as_tensor(made_up_density(structure, points.numpy())).float()[:, None].split(CHUNK)

    def step(self) -> None:
        """One step of Adam; the gradient is summed over chunks."""
        self.optimizer.zero_grad(set_to_none=True)
        for points, target in zip(self.parts, self.target, strict=True):
            (self.naive.chunk(points) - target).abs().mean().backward()
        self.optimizer.step()


def measure(system: str, threads: int, batch: int, steps: int, repeats: int) -> dict[str, dict]:
    """Rows of one system, number of threads and batch size."""
    torch.set_num_threads(threads)
    structure = SYSTEMS[system]()
    with tempfile.TemporaryDirectory() as folder:
        trainer = made_up_training(structure, Path(folder), batch, steps * (repeats + 2))
    naive = NaiveTraining(structure, batch)
    products = Matrices(trainer.model, batch)
    flop = 3 * (fitting_flop(trainer.model, folded=False) + contraction_flop(trainer.model))
    calls = {"dcharge": lambda: [trainer.train_step() for _ in range(steps)], "naive torch": naive.step}
    calls |= products.calls(0.3 * flop * batch * steps)
    for call in calls.values():
        call()
    took = interleaved(calls, repeats)
    label = f"{system}, {threads_label(threads)}, batch {batch}"
    fast, slow = rate(batch * steps, took["dcharge"]), rate(batch, took["naive torch"])
    fast |= {"ratio": fast["value"] / slow["value"], "of": "x naive torch", "steps_per_s": steps / took["dcharge"].wall}
    if (threads, batch, system) == (2, BATCH, "silicon"):
        fast |= {"target": f">= {TARGET / 1e3:g} k points/s", "met": fast["value"] >= TARGET}
    limit = products.best(took) / flop
    return {
        f"{label}: dcharge": fast,
        f"{label}: naive torch": slow,
        f"{label}: limit of torch's matrix product": {
            "value": limit, "unit": "points/s", "ratio": fast["value"] / limit, "of": "of it reached",
            "flop_per_point": flop, "gf_per_s": products.best(took) / 1e9,
        },
    }  # fmt: skip


def main() -> None:
    """Measure every system, number of threads and batch size, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[BATCH, 1024], help="points a step (default: 4096 1024)"
    )
    parser.add_argument("--steps", type=int, default=8, help="steps timed at once (default: 8)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["silicon", "water"], help="default: silicon water"
    )
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    keep_memory()
    if args.quick:
        args.batch, args.steps, args.repeats, args.threads, args.systems = [512], 1, 1, [1], ["silicon"]
    rows = {}
    for system in args.systems:
        for threads in args.threads:
            for batch in args.batch:
                rows |= measure(system, threads, batch, args.steps, args.repeats)
    report(rows)


if __name__ == "__main__":
    main()
