"""`dcharge predict`: frozen model and structures -> densities."""

from __future__ import annotations

from .shared import (
    add_device,
    add_models,
    add_precision,
    add_surroundings,
    add_type_map,
    factor,
    models_and_files,
    positive,
    positive_int,
)

HELP = "Densities of structures on a grid. Structures: any file ASE reads, LAMMPS data and dump files, trajectories."


def add_arguments(parser) -> None:
    """Arguments of `dcharge predict`."""
    parser.add_argument("structure", nargs="*", metavar="STRUCTURE", help="structure files or trajectories")
    add_models(parser, "several: mean and standard deviation, the latter as dataset std of .h5 or in x.std.cube")
    grid = parser.add_mutually_exclusive_group(required=True)
    grid.add_argument(
        "--grid", nargs=3, type=positive_int, metavar=("N1", "N2", "N3"), help="points along the cell vectors"
    )
    grid.add_argument("--spacing", type=positive, metavar="H", help="largest distance of grid points in Angstrom")
    grid.add_argument("--like", metavar="FILE", help="grid (and augmentation occupancies of a CHGCAR) of this file")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument(
        "-o", "--output", metavar="FILE", help="density file; its name says the format: .cube, CHGCAR, .h5"
    )
    output.add_argument("--pattern", metavar="NAME", help="instead: one file per frame, e.g. rho.%%06d.cube")
    parser.add_argument(
        "--coarse",
        type=factor,
        default=1,
        metavar="F",
        help="residual on a grid coarser by 1, 2, 3 or 4, or auto: what dcharge test --coarse --store found",
    )
    parser.add_argument(
        "--symmetry", action="store_true", help="evaluate only irreducible points of a crystal (pip install spglib)"
    )
    add_precision(parser, "refused unless dcharge test --precision bf16 --store has accepted it")
    parser.add_argument("--electrons", type=positive, metavar="N", help="rescale to this number of electrons")
    parser.add_argument("--every", type=positive_int, default=1, metavar="N", help="every N-th frame of a trajectory")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="type of HDF5 output values")
    add_type_map(parser)
    add_device(parser)
    add_surroundings(parser)


def run(args) -> None:
    """Predict."""
    from ..predict import run

    chosen, structures = models_and_files(args, args.structure)
    run(
        chosen,
        structures,
        shape=args.grid,
        spacing=args.spacing,
        like=args.like,
        output=args.output,
        electrons=args.electrons,
        every=args.every,
        pattern=args.pattern,
        dtype=args.dtype,
        type_map=args.type_map,
        pbc=args.pbc,
        field=args.field,
        device=args.device,
        coarse=args.coarse,
        symmetry=args.symmetry,
        precision=args.precision,
    )
