"""`dcharge train`: input file -> checkpoints."""

from __future__ import annotations

from .shared import add_device

HELP = "Train a model on DFT densities as the input file says (see docs/input.md)."


def add_arguments(parser) -> None:
    """Arguments of `dcharge train`."""
    parser.add_argument("input", metavar="INPUT", help="input file, JSON or YAML")
    parser.add_argument(
        "-o", "--output", default="out.json", metavar="FILE", help="input with all defaults (default: out.json)"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "-r", "--restart", metavar="CKPT", help="continue this run: weights, optimizer, step, random state"
    )
    start.add_argument("-i", "--init-model", metavar="CKPT", help="start a new run from the weights of this checkpoint")
    add_device(parser, default=None, words="training/device of the input")


def run(args) -> None:
    """Train."""
    from ..config import load_config

    # before torch is imported: a typo in the input is told at once
    config = load_config(args.input)
    if args.device:
        config["training"]["device"] = args.device
    from ..train import train

    train(config, restart=args.restart, init_model=args.init_model, output=args.output)
