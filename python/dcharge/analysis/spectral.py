"""Gradient, Hessian and Laplacian of a density on a grid by Fourier transform, float64.

rho(r) = sum_G c_G exp(i G.r): a derivative multiplies c_G by i G_a. Exact for what the grid resolves; the term at n/2
of an even n has no direction and is left out of odd derivatives (Trefethen, Spectral Methods in MATLAB, ch. 3).
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from ..errors import InputError

BORDER = 1e-3  # share of the largest density that may be left at the ends of an axis that is not periodic
BLOCK = 1 << 16  # points handed out at once
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def check_continued(density) -> None:
    """InputError where a density cannot be continued periodically: an axis that is not periodic without vacuum at its
    ends, a grid that is not the periodic cell."""
    grid, structure, rho = density.grid, density.structure, density.total
    rows = structure.pbc
    if not np.allclose(grid.cell[rows], structure.cell[rows], rtol=0, atol=1e-3):
        raise InputError(f"{density.name}: the grid is not the periodic cell, its Fourier derivatives have no meaning")
    for axis in np.flatnonzero(~rows):
        ends = np.abs(np.take(rho, [0, -1], axis=axis)).max()
        if ends > BORDER * np.abs(rho).max():
            raise InputError(
                f"{density.name}: not periodic along {'abc'[axis]} and no vacuum at its ends: Fourier derivatives "
                "need one of them (a smooth model's own need neither)"
            )


class Waves:
    """Fourier coefficients of a total density, and the derivatives that follow from them, each [n1, n2, n3].

    resolution  Angstrom: waves shorter than this are left out, whatever their direction, and the terms at n/2; None:
                all are kept
    InputError as `check_continued`. Memory: one complex array of half the grid, one array per derivative.
    """

    def __init__(self, density, resolution: float | None = None):
        check_continued(density)
        grid, rho = density.grid, np.asarray(density.total, dtype=np.float64)
        self.shape = grid.shape
        self.waves = scipy.fft.rfftn(rho)
        # G = 2 pi (m1, m2, m3) . (inverse cell)^T; along an axis of the grid d/dx_a = sum_k (inverse)_ak d/du_k
        self.inverse = np.linalg.inv(grid.cell)
        self.odd, self.even = _frequencies(grid.shape, odd=True), _frequencies(grid.shape, odd=False)
        if resolution is not None:
            square = sum(_along(self.inverse[a], self.even) ** 2 for a in range(3))
            self.waves[square > (2 * np.pi / resolution) ** 2] = 0.0
            for k, n in enumerate(grid.shape):
                if n % 2 == 0:  # the term at n/2 stands for G and for -G along this axis: its length is not known
                    self.waves[(slice(None),) * k + (n // 2,)] = 0.0

    def _back(self, factor) -> np.ndarray:
        return scipy.fft.irfftn(factor * self.waves, s=self.shape)

    def gradient(self, a: int) -> np.ndarray:
        """d rho/d x_a, e/Angstrom^4."""
        return self._back(1j * _along(self.inverse[a], self.odd))

    def hessian(self, a: int, b: int) -> np.ndarray:
        """d^2 rho/d x_a d x_b, e/Angstrom^5."""
        return self._back(-self._square(a, b))

    def laplacian(self) -> np.ndarray:
        """The trace of the Hessian, e/Angstrom^5."""
        return self._back(-sum(self._square(a, a) for a in range(3)))

    def _square(self, a: int, b: int) -> np.ndarray:
        """G_a G_b: pure second derivatives along an axis keep the term at n/2, mixed ones drop it."""
        out = _along(self.inverse[a], self.odd) * _along(self.inverse[b], self.odd)
        for k in range(3):
            out = out + self.inverse[a, k] * self.inverse[b, k] * (self.even[k] ** 2 - self.odd[k] ** 2)
        return out


def derivatives(density):
    """Yields (flat index [n], rho [n], gradient [n, 3], Hessian [n, 3, 3]) of the total density, e and Angstrom.

    InputError as `Waves`. Memory: ten arrays of the grid.
    """
    waves, grid = Waves(density), density.grid
    first = [waves.gradient(a).reshape(-1) for a in range(3)]
    second = [waves.hessian(a, b).reshape(-1) for a, b in PAIRS]
    del waves
    rho = np.asarray(density.total, dtype=np.float64).reshape(-1)
    for start in range(0, grid.n_points, BLOCK):
        index = np.arange(start, min(start + BLOCK, grid.n_points))
        hessian = np.empty((len(index), 3, 3))
        for (a, b), values in zip(PAIRS, second, strict=True):
            hessian[:, a, b] = hessian[:, b, a] = values[index]
        yield index, rho[index], np.stack([g[index] for g in first], axis=1), hessian


def _frequencies(shape, odd: bool) -> list[np.ndarray]:
    """2 pi m along each axis, shaped to broadcast; with `odd` zero at n/2 of an even n."""
    out = []
    for axis, n in enumerate(shape):
        m = np.arange(n // 2 + 1, dtype=np.float64) if axis == 2 else np.fft.fftfreq(n, 1 / n)
        if odd and n % 2 == 0:
            m[n // 2] = 0.0
        out.append(2 * np.pi * m.reshape([-1 if k == axis else 1 for k in range(3)]))
    return out


def _along(row: np.ndarray, frequencies) -> np.ndarray:
    return sum(x * f for x, f in zip(row, frequencies, strict=True))
