"""`dcharge test`: frozen model and known densities -> errors."""

from __future__ import annotations

from .shared import add_device, add_models, add_precision, add_surroundings, factors, models, natural

HELP = "Errors of a frozen model on known densities, on the full grid, beside those of its baseline alone."


def add_arguments(parser) -> None:
    """Arguments of `dcharge test`."""
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
    add_precision(parser, "what it costs and saves")
    parser.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    add_device(parser)
    add_surroundings(parser)


def run(args) -> None:
    """Test."""
    from ..evaluate import test

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
    )
