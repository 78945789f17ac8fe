"""Parity plots: what a model says against the reference, one panel per quantity."""

from __future__ import annotations

from ..errors import InputError
from ..io.replacing import replacing

PICTURES = ("png", "pdf", "svg")


def pyplot(command: str):
    """matplotlib's pyplot without a screen; InputError, which begins with `command`, where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise InputError(f"{command}: matplotlib is missing; run 'pip install matplotlib'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def check_picture(path) -> None:
    """InputError unless the name of a picture ends in .png, .pdf or .svg."""
    if str(path).rsplit(".", 1)[-1].lower() not in PICTURES:
        raise InputError(f"{path}: .png, .pdf or .svg expected")


def save(plt, figure, path) -> None:
    """Write a figure under a temporary name, rename, and let go of it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=str(path).rsplit(".", 1)[-1].lower())
    plt.close(figure)


def parity(ax, reference, predicted, unit: str, title: str = "parity", large: bool = False) -> None:
    """Points [n] of a model against those of the reference, and the diagonal; large: one dot per frame."""
    ax.plot(reference, predicted, ".", markersize=6 if large else 1.5, rasterized=True)
    ends = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    ax.plot(ends, ends, "k-", linewidth=0.7)
    ax.set(xlabel=f"reference, {unit}", ylabel=f"model, {unit}", title=title)


def parity_plots(panels, path, title: str) -> None:
    """Draw panels of (name, unit, reference [n], predicted [n], whether a dot is a frame) to `path`."""
    plt = pyplot("test")
    figure, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 4.2), squeeze=False, layout="constrained")
    for ax, (name, unit, reference, predicted, large) in zip(axes[0], panels, strict=True):
        parity(ax, reference, predicted, unit, name, large)
    figure.suptitle(title)
    save(plt, figure, path)
