"""Fewer evaluations: the residual on coarser grids, and irreducible points of a crystal, beside the full evaluation.

    python -m benchmarks.coarse [--size 84] [--repeats 5] [--threads 1] [--quick]

The paper's sizes on 64 rattled silicon atoms, and for the symmetry on the perfect 8-atom crystal; rounds alternate,
medians. Random weights: times only. What the interpolation does to the error of a trained model is printed and stored
by `dcharge test --coarse 1,2,3 --store`.
"""

from __future__ import annotations

import argparse

from .cases import deep_charge, interleaved, report, silicon

TARGET = 5.0  # of factor 2 on silicon, over the full evaluation
RADIUS = 0.9  # Angstrom around every nucleus, in the row that treats nuclei on the fine grid


def measure(size: int, repeats: int) -> dict[str, dict]:
    """All rows."""
    from dcharge import Grid, coarse
    from dcharge.predict import Predictor

    structure = silicon()
    predictor = Predictor(deep_charge(structure))
    grid = Grid((size,) * 3, structure.cell)

    def over(factor, radius):
        def call():
            before = predictor.evaluations
            for _ in coarse.tiles(predictor, structure, grid, factor, radii={"Si": radius}):
                pass
            spent[factor, radius] = predictor.evaluations - before

        return call

    spent: dict = {}
    cases = [(2, 0.0), (3, 0.0), (2, RADIUS)]
    calls = {"full": lambda: predictor.predict(structure, grid=grid)} | {case: over(*case) for case in cases}
    try:
        import spglib  # noqa: F401
    except ImportError:
        crystal = None
    else:
        crystal = silicon(repeat=1, rattle=0.0)
        shape = (max(8, size // 2 // 4 * 4),) * 3
        calls["crystal"] = lambda: predictor.predict(crystal, shape=shape)
        calls["symmetry"] = lambda: predictor.predict(crystal, shape=shape, symmetry=True)
    took = interleaved(calls, repeats)
    rows = {"full": {"value": grid.n_points / took["full"], "unit": "points/s", "seconds": took["full"]}}
    for factor, radius in cases:
        ratio = took["full"] / took[factor, radius]
        near = f", fine within {radius:g} Angstrom" if radius else ""
        goal = {"target": f">= {TARGET:g} x", "met": ratio >= TARGET} if (factor, radius) == (2, 0.0) else {}
        rows[f"coarse {factor}{near}"] = {
            "value": grid.n_points / took[factor, radius], "unit": "points/s", "ratio": ratio, "of": "x full",
            "seconds": took[factor, radius], "evaluations": spent[factor, radius], "n_points": grid.n_points, **goal,
        }  # fmt: skip
    if crystal is not None:
        n = shape[0] ** 3
        rows["symmetry, perfect crystal"] = {
            "value": n / took["symmetry"], "unit": "points/s", "ratio": took["crystal"] / took["symmetry"],
            "of": "x full", "seconds": took["symmetry"], "n_points": n,
        }  # fmt: skip
    return rows


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=84, help="grid points along each edge (default: 84)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="number of threads (default: 1)")
    parser.add_argument("--quick", action="store_true", help="small and noisy, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.size, args.repeats = 24, 1
    torch.set_num_threads(args.threads)
    report(measure(args.size, args.repeats))


if __name__ == "__main__":
    main()
