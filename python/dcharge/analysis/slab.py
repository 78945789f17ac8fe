"""A slab between two vacua: the planar average from one vacuum to the other, and the heights of the atoms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from .axis import Axis, axis_of
from .planar import Profile, planar_average

VACUUM = 5.0  # Angstrom without atoms that a periodic direction must have
LEFT = 0.01  # largest planar average at the ends, as a share of the largest anywhere


@dataclass(frozen=True)
class Slab:
    """profile: Profile from vacuum to vacuum; atoms [n_atoms]: heights, Angstrom, in the same window."""

    profile: Profile
    atoms: np.ndarray

    def integral(self):
        """The antiderivative of the profile's cubic spline, zero at the lowest plane: a scipy PPoly, e/Angstrom^2."""
        from scipy.interpolate import CubicSpline

        return CubicSpline(self.profile.height, self.profile.values, bc_type="natural").antiderivative()


def slab_of(density, axis: str | Axis | None, values=None) -> Slab:
    """The slab of a density along an axis (see `axis_of`), of `values` [n1, n2, n3] or of the total density.

    A periodic direction is cut in the middle of its vacuum. Raises InputError where there is no vacuum: a periodic
    direction with less than 5 Angstrom between atoms, atoms beyond the grid, or a density that is not zero at its ends.
    """
    axis = axis_of(density, axis)
    profile = planar_average(density, axis, values)
    atoms = density.structure.positions @ axis.normal
    letter = "abc"[axis.index]
    if not len(atoms) or len(profile.height) < 4:
        raise InputError(f"{density.name}: atoms and at least four planes of grid points along {letter} expected")
    if profile.period is not None:
        profile, atoms = _cut(profile, atoms, density.name, letter)
    elif not (profile.height[0] <= atoms.min() and atoms.max() <= profile.height[-1]):
        raise InputError(
            f"{density.name}: atoms at heights {atoms.min():.2f} to {atoms.max():.2f} along {letter}, the grid from "
            f"{profile.height[0]:.2f} to {profile.height[-1]:.2f}: the slab must lie within the grid"
        )
    size = np.abs(profile.values)
    if max(size[0], size[-1]) > LEFT * size.max():
        raise InputError(
            f"{density.name}: no vacuum along {letter}: at its ends the planar average is "
            f"{100 * max(size[0], size[-1]) / size.max():.1f} % of the largest, at most {100 * LEFT:g} % expected"
        )
    return Slab(profile, atoms)


def _cut(profile: Profile, atoms, name: str, letter: str):
    """Profile and atoms moved by whole periods so that both begin and end in the middle of the vacuum."""
    start, period = profile.height[0], profile.period
    inside = np.sort((atoms - start) % period)
    gaps = np.diff(np.append(inside, inside[0] + period))
    widest = int(gaps.argmax())
    if gaps[widest] < VACUUM:
        raise InputError(
            f"{name}: {letter} is periodic and has no vacuum (largest gap between atoms {gaps[widest]:.2f} Angstrom, "
            f"{VACUUM:g} expected): boundaries there are not open (--pbc tells a direction that is not periodic)"
        )
    first = int(np.ceil((inside[widest] + gaps[widest] / 2) / profile.step))
    cut = start + first * profile.step
    profile = replace(profile, height=profile.height + first * profile.step, values=np.roll(profile.values, -first))
    atoms = cut + (atoms - cut) % period
    back = period * round((cut - start) / period)  # stay near the cell
    return replace(profile, height=profile.height - back), atoms - back
