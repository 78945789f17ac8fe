"""`dcharge test`: frozen model and known densities -> errors."""

from __future__ import annotations

from .shared import add_derivatives, add_device, add_models, add_precision, add_surroundings, factors, models, natural

HELP = "Errors of a frozen model on known densities, on the full grid, beside those of its baseline alone."


def add_arguments(parser) -> None:
    """Arguments of `dcharge test`."""
    from ..analysis.differential import OPTIONS as DIFFERENTIAL

    add_models(parser, "several: an ensemble, errors of its mean and whether its deviation tells them")
    parser.add_argument(
        "-s", "--system", nargs="+", required=True, metavar="PATH", help="files or folders with densities"
    )
    parser.add_argument("-n", "--numb-test", type=natural, default=0, metavar="N", help="frames per system (0: all)")
    parser.add_argument("-d", "--detail", metavar="PREFIX", help="write predicted and reference densities")
    parser.add_argument(
        "--coarse", type=factors, metavar="F,F,..", help="what --coarse of predict costs and saves, e.g. 1,2,3"
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep in the model what --coarse auto takes (NMAE may rise by 5 %% of it) and whether --precision bf16 "
        "may be used (by 1 %%)",
    )
    group = parser.add_argument_group("derived quantities, beside those of the reference")
    group.add_argument("--laplacian", action="store_true", help="RMSE and R2 of the Laplacian, e/Angstrom^5")
    group.add_argument("--gradient", action="store_true", help="RMSE and R2 of the gradient, e/Angstrom^4")
    add_derivatives(group, "default: fft; the reference's always")
    group.add_argument("--resolution", **DIFFERENTIAL["--resolution"])
    add_dipole(group)
    group.add_argument("--plot", metavar="FILE", help="parity plots of density and all of these (.png, .pdf, .svg)")
    add_precision(parser, "what it costs and saves")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    add_device(parser)
    add_surroundings(parser)


def add_dipole(group) -> None:
    """The options of the dipole moment, as `dcharge analyze` has them."""
    from ..analysis.dipole import OPTIONS

    for flag, words in OPTIONS.items():
        group.add_argument(flag, **words)


def run(args) -> None:
    """Test."""
    from ..analysis.dipole import parse_valence
    from ..derived import Wanted
    from ..evaluate import test

    derive = Wanted(
        gradient=args.gradient,
        laplacian=args.laplacian,
        dipole=args.dipole,
        derivatives=args.derivatives,
        resolution=args.resolution,
        valence=parse_valence(args.valence),
        origin=args.dipole_origin,
        neutral=args.neutral,
        plot=args.plot,
    )

    test(
        models(args),
        args.system,
        n=args.numb_test,
        prefix=args.detail,
        json_file=args.json,
        pbc=args.pbc,
        field=args.field,
        device=args.device,
        coarse=args.coarse,
        store=args.store,
        precision=args.precision,
        derive=derive,
    )
