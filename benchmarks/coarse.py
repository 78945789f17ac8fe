"""Fewer evaluations: the residual on coarser grids, and irreducible points of a crystal, beside the full evaluation.

    python -m benchmarks.coarse [--size 84] [--repeats 5] [--threads 1] [--quick]

The paper's sizes on silicon and water (of water, nuclei are treated on the fine grid), and for the symmetry on the
perfect 8-atom silicon crystal; rounds alternate, medians. Random weights: times only. What the interpolation does to
the error of a trained model is printed and stored by `dcharge test --coarse 1,2,3 --store`.
"""

from __future__ import annotations

import argparse
import sys

from .cases import SYSTEMS, deep_charge, interleaved, rate, report, silicon

RADIUS = 0.9  # Angstrom around every nucleus, in rows that treat nuclei on the fine grid
CASES = {"silicon": [(2, 0.0), (3, 0.0), (2, RADIUS)], "water": [(2, RADIUS), (3, RADIUS)]}  # (factor, radius)
TARGETS = {("silicon", 2, 0.0): 5.0, ("water", 2, RADIUS): 3.0}  # over the full evaluation


def measure(system: str, size: int, repeats: int) -> dict[str, dict]:
    """Rows of one system."""
    from dcharge import Grid, coarse
    from dcharge.predict import Predictor

    structure = SYSTEMS[system]()
    predictor = Predictor(deep_charge(structure))
    grid = Grid((size,) * 3, structure.cell)
    spent: dict = {}

    def over(factor, radius):
        radii = dict.fromkeys(structure.symbols, radius)

        def call():
            before = predictor.evaluations
            for _ in coarse.tiles(predictor, structure, grid, factor, radii=radii):
                pass
            spent[factor, radius] = predictor.evaluations - before

        return call

    calls = {"full": lambda: predictor.predict(structure, grid=grid)} | {case: over(*case) for case in CASES[system]}
    took = interleaved(calls, repeats)
    rows = {f"{system}: full": rate(grid.n_points, took["full"])}
    for case in CASES[system]:
        factor, radius = case
        ratio, least = took["full"].wall / took[case].wall, TARGETS.get((system, *case))
        near = f", fine within {radius:g} Angstrom" if radius else ""
        goal = {"target": f">= {least:g} x", "met": ratio >= least} if least else {}
        rows[f"{system}: coarse {factor}{near}"] = rate(grid.n_points, took[case]) | {
            "ratio": ratio, "of": "x full", "evaluations": spent[case], **goal
        }  # fmt: skip
    return rows


def symmetry(size: int, repeats: int) -> dict[str, dict]:
    """The row of the perfect crystal; none without spglib."""
    from dcharge.predict import Predictor

    try:
        import spglib  # noqa: F401
    except ImportError:
        print("spglib is not installed: no row for --symmetry", file=sys.stderr)
        return {}
    crystal = silicon(repeat=1, rattle=0.0)
    predictor = Predictor(deep_charge(crystal))
    shape = (max(8, size // 2 // 4 * 4),) * 3
    took = interleaved(
        {
            "full": lambda: predictor.predict(crystal, shape=shape),
            "symmetry": lambda: predictor.predict(crystal, shape=shape, symmetry=True),
        },
        repeats,
    )
    row = rate(shape[0] ** 3, took["symmetry"]) | {"ratio": took["full"].wall / took["symmetry"].wall, "of": "x full"}
    return {"perfect silicon crystal: symmetry": row}


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
    rows = {}
    for system in CASES:
        rows |= measure(system, args.size, args.repeats)
    report(rows | symmetry(args.size, args.repeats))


if __name__ == "__main__":
    main()
