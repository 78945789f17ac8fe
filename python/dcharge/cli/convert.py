"""`dcharge convert`: densities from any format into any other."""

from __future__ import annotations

from .shared import add_surroundings, natural, positive, positive_int

HELP = (
    "Convert densities. SRC: files, folders, quoted patterns, .tar of compressed files. DST says the format: "
    ".h5 (all frames), .cube or CHGCAR (one frame, or a pattern like rho.%03d.cube), a name without suffix: "
    "DeePMD-kit style point data. Any name may end in .gz .zz .xz .bz2."
)


def add_arguments(parser) -> None:
    """Arguments of `dcharge convert`."""
    parser.add_argument("source", nargs="+", metavar="SRC", help="densities to read")
    parser.add_argument("target", metavar="DST", help="what to write")
    parser.add_argument(
        "--format",
        choices=("cube", "chgcar", "points"),
        help="DST is a folder: one file of this format per frame, or points",
    )
    parser.add_argument(
        "--points", type=positive_int, metavar="N", help="keep N random points of every frame (point data)"
    )
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the random points (default: 0)")
    parser.add_argument(
        "--electrons", type=positive, metavar="N", help="warn where a frame differs by more than 1 %%; kept in HDF5"
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), help="of HDF5 (default float32) or points (float64)")
    parser.add_argument("--compress", choices=("gzip",), help="compress HDF5: smaller, slow random access")
    parser.add_argument(
        "--kind",
        choices=("density", "response"),
        help="what the values are, in place of what the files say",
    )
    parser.add_argument(
        "--minus",
        metavar="REF",
        help="write responses: every density of SRC minus the one of REF with the same atoms and grid, without field",
    )
    add_surroundings(parser)


def run(args) -> None:
    """Convert."""
    from ..io.convert import convert

    convert(
        args.source,
        args.target,
        format=args.format,
        points=args.points,
        seed=args.seed,
        electrons=args.electrons,
        dtype=args.dtype,
        compress=args.compress,
        kind=args.kind,
        pbc=args.pbc,
        field=args.field,
        minus=args.minus,
    )
