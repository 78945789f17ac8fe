"""Curves of `dcharge analyze` as a picture: one panel per quantity, the reference dashed; of fields a plane."""

from __future__ import annotations

from ..errors import InputError
from .parity import pyplot, save

NAMED = 8  # more frames than these have no legend


def picture(analyses, path) -> None:
    """Draw the curves of all frames to `path` (.png, .pdf, .svg), or one plane of each of their fields.

    InputError where there is neither, where both were asked for, or without matplotlib.
    """
    plt = pyplot("analyze")
    names = list(dict.fromkeys(name for a in analyses for name in a.found.curves))
    fields = list(dict.fromkeys(name for a in analyses for name in a.found.fields))
    if not names and not fields:
        raise InputError(f"{path}: nothing to draw, what was asked for has no curve; write .csv or .json")
    if names and fields:
        raise InputError(f"{path}: curves and fields do not go into one picture; ask for them one after the other")
    figure = planes(plt, analyses, fields, path) if fields else curves(plt, analyses, names)
    save(plt, figure, path)


def planes(plt, analyses, names, path):
    """One row per frame, one panel per field: the grid plane with most density."""
    if len(analyses) > NAMED:
        raise InputError(f"{path}: planes of {len(analyses)} frames do not go into one picture, at most {NAMED} do")
    shape = len(analyses), len(names)
    figure, axes = plt.subplots(*shape, figsize=(5.5 * shape[1], 4.3 * shape[0]), squeeze=False, layout="constrained")
    for row, a in zip(axes, analyses, strict=True):
        for ax, name in zip(row, names, strict=True):
            field = a.found.fields[name]
            low, high = field.limits or (float(field.shown.min()), float(field.shown.max()))
            where, colors = field.plane, "RdBu_r" if low == -high else "viridis"
            mesh = ax.pcolormesh(where.x, where.y, field.shown, vmin=low, vmax=high, cmap=colors, rasterized=True)
            figure.colorbar(mesh, ax=ax, label=field.words, shrink=0.85)
            plane = f"plane {where.position} across {'abc'[where.axis]}"
            ax.set(title=f"{a.name}, {plane}", xlabel="Å", aspect="equal")
    return figure


def curves(plt, analyses, names):
    """One panel per quantity."""
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
    return figure
