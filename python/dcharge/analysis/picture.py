"""Curves of `dcharge analyze` as a picture: one panel per quantity, the reference dashed."""

from __future__ import annotations

from ..errors import InputError
from ..io.replacing import replacing

NAMED = 8  # more frames than these have no legend


def picture(analyses, path) -> None:
    """Draw the curves of all frames to `path` (.png, .pdf, .svg). InputError where there is none, or no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise InputError("analyze: matplotlib is missing; run 'pip install matplotlib'") from None
    names = list(dict.fromkeys(name for a in analyses for name in a.found.curves))
    if not names:
        raise InputError(f"{path}: nothing to draw, what was asked for has no curve; write .csv or .json")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(names), 1, figsize=(7, 2.8 * len(names)), squeeze=False, layout="constrained")
    for ax, name in zip(axes[:, 0], names, strict=True):
        for number, a in enumerate(analyses):
            curve, color = a.found.curves[name], f"C{number % 10}"
            ax.plot(curve.height, curve.values, color=color, label=a.name)
            if a.reference is not None:
                other = a.reference.curves[name]
                ax.plot(other.height, other.values, "--", color="k", linewidth=0.9, label=a.reference_name)
        ax.axhline(0, color="0.8", linewidth=0.7, zorder=0)
        ax.set(xlabel="height, Å", ylabel=f"{name}, {curve.unit}")
    if len(analyses) <= NAMED:
        axes[0, 0].legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=str(path).rsplit(".", 1)[-1].lower())
    plt.close(figure)
