"""Vectors of species for CGCNN: what the periodic table says about an element, as 92 zeros and ones.

Nine properties, each a block of bins of equal width of which one is set (none where nothing is known), after Xie and
Grossman (Phys. Rev. Lett. 120, 145301, supplement): group, period, electronegativity, covalent radius, valence
electrons, logarithm of the ionisation energy, electron affinity, block, logarithm of the atomic volume.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

from ..errors import InputError

# Pauling's electronegativity, first ionisation energy (eV; NIST), electron affinity (eV; "-": no stable anion, or not
# known), all three as the package mendeleev lists them, and volume of the solid or liquid element (cm^3/mol)
PROPERTIES = """
H 2.20 13.598 0.754 14.2;  He - 24.587 - 32.0;  Li 0.98 5.392 0.618 13.0;  Be 1.57 9.323 - 4.87
B 2.04 8.298 0.280 4.62;  C 2.55 11.260 1.262 5.46;  N 3.04 14.534 - 17.3;  O 3.44 13.618 1.461 14.0
F 3.98 17.423 3.401 12.6;  Ne - 21.565 - 16.7;  Na 0.93 5.139 0.548 23.7;  Mg 1.31 7.646 - 14.0
Al 1.61 5.986 0.433 9.99;  Si 1.90 8.152 1.390 12.1;  P 2.19 10.487 0.747 17.0;  S 2.58 10.360 2.077 15.5
Cl 3.16 12.968 3.613 22.7;  Ar - 15.760 - 28.6;  K 0.82 4.341 0.501 43.9;  Ca 1.00 6.113 0.025 26.0
Sc 1.36 6.561 0.188 15.0;  Ti 1.54 6.828 0.079 10.6;  V 1.63 6.746 0.525 8.49;  Cr 1.66 6.767 0.666 7.27
Mn 1.55 7.434 - 7.53;  Fe 1.83 7.902 0.151 7.10;  Co 1.88 7.881 0.662 6.65;  Ni 1.91 7.640 1.156 6.59
Cu 1.90 7.726 1.235 7.09;  Zn 1.65 9.394 - 9.16;  Ga 1.81 5.999 0.430 11.8;  Ge 2.01 7.899 1.233 13.6
As 2.18 9.789 0.804 13.0;  Se 2.55 9.752 2.021 16.4;  Br 2.96 11.814 3.364 25.8;  Kr - 14.000 - 34.7
Rb 0.82 4.177 0.486 55.9;  Sr 0.95 5.695 0.048 33.2;  Y 1.22 6.217 0.307 19.9;  Zr 1.33 6.634 0.426 14.0
Nb 1.60 6.759 0.917 10.8;  Mo 2.16 7.092 0.748 9.41;  Tc 2.10 7.119 0.550 8.90;  Ru 2.20 7.361 1.050 8.35
Rh 2.28 7.459 1.137 8.30;  Pd 2.20 8.337 0.562 8.87;  Ag 1.93 7.576 1.302 10.3;  Cd 1.69 8.994 - 12.9
In 1.78 5.786 0.300 15.7;  Sn 1.96 7.344 1.112 16.3;  Sb 2.05 8.608 1.046 18.2;  Te 2.10 9.010 1.971 20.5
I 2.66 10.451 3.059 25.7;  Xe 2.60 12.130 - 44.6;  Cs 0.79 3.894 0.472 71.0;  Ba 0.89 5.212 0.145 37.9
La 1.10 5.577 0.470 22.6;  Ce 1.12 5.539 0.650 20.7;  Pr 1.13 5.470 0.962 20.8;  Nd 1.14 5.525 1.916 20.6
Pm - 5.582 - 20.0;  Sm 1.17 5.644 - 20.0;  Eu - 5.670 0.864 29.0;  Gd 1.20 6.150 - 19.9
Tb - 5.864 1.165 19.3;  Dy 1.22 5.939 0.352 19.0;  Ho 1.23 6.021 - 18.7;  Er 1.24 6.108 - 18.4
Tm 1.25 6.184 1.029 18.1;  Yb - 6.254 - 25.1;  Lu 1.00 5.426 0.340 17.8;  Hf 1.30 6.825 0.014 13.4
Ta 1.50 7.550 0.322 11.0;  W 1.70 7.864 0.816 9.53;  Re 1.90 7.834 0.150 8.95;  Os 2.20 8.438 1.100 8.42
Ir 2.20 8.967 1.564 8.52;  Pt 2.20 8.959 2.128 9.07;  Au 2.40 9.226 2.309 10.2;  Hg 1.90 10.438 - 14.8
Tl 1.80 6.108 0.377 17.3;  Pb 1.80 7.417 0.357 18.3;  Bi 1.90 7.286 0.942 21.3;  Po 2.00 8.418 1.900 22.7
At 2.20 9.318 2.800 30.0;  Rn - 10.748 - 50.5;  Fr 0.70 4.073 0.486 119.3;  Ra 0.90 5.278 0.100 45.2
Ac 1.10 5.380 0.350 22.7;  Th 1.30 6.307 - 19.8;  Pa 1.50 5.890 - 15.0;  U 1.70 6.194 - 12.5
Np 1.30 6.266 - 11.7;  Pu 1.30 6.026 - 12.4;  Am - 5.974 - 20.2;  Cm - 5.992 - 18.3
Bk - 6.198 - 16.7;  Cf - 6.282 - 16.6;  Es - 6.368 - 28.5;  Fm - 6.500 - 26.5
"""
ELEMENTS = {
    row.split()[0]: tuple(None if x == "-" else float(x) for x in row.split()[1:])
    for row in PROPERTIES.replace("\n", ";").split(";")
    if row.strip()
}
NOBLE = (2, 10, 18, 36, 54, 86, 118)  # what ends the periods
# name, bins, range (None: the value is the bin)
BLOCKS = (
    ("group", 19, None),  # 0: lanthanides and actinides
    ("period", 7, None),
    ("electronegativity", 10, (0.5, 4.0)),
    ("covalent radius", 10, (0.25, 2.5)),  # Angstrom
    ("valence electrons", 12, None),
    ("ionisation energy", 10, (1.3, 3.3)),  # ln(E/eV)
    ("electron affinity", 10, (-3.0, 3.7)),  # eV
    ("block", 4, None),  # s, p, d, f
    ("atomic volume", 10, (1.5, 4.3)),  # ln(V mol/cm^3)
)
N_PROPERTIES = sum(n for _, n, _ in BLOCKS)


def place(number: int) -> tuple[int, int, int]:
    """Group (0: lanthanides and actinides without the last one), period and block (0..3: s, p, d, f) of an element."""
    period = bisect.bisect_left(NOBLE, number) + 1
    if number == 2:
        return 18, 1, 0
    column = number - (NOBLE[period - 2] if period > 1 else 0)  # 1, 2, ... along the period
    left = NOBLE[period - 1] - number  # elements that follow in the period
    if column <= 2:
        return column, period, 0
    if left < 6:
        return 18 - left, period, 1
    if left < 16:  # ten d elements; the fourteen before them, in the long periods, are f elements
        return 12 - (left - 6), period, 2
    return 0, period, 3


def element_row(symbol: str) -> np.ndarray:
    """The vector [92] of an element up to fermium. InputError for one that is not in the table."""
    from ase.data import atomic_numbers, covalent_radii  # here: a check on a machine without ASE imports this file

    if symbol not in ELEMENTS:
        raise InputError(f"model/type_map: no data on {symbol}; model/species 'learned' needs none")
    electronegativity, ionisation, affinity, volume = ELEMENTS[symbol]
    number = atomic_numbers[symbol]
    group, period, block = place(number)
    valence = 2 if block == 3 or number == 2 else group if group <= 12 else group - 10
    radius = covalent_radii[number] if number <= 96 else None  # ASE's last one
    values = (
        group,
        period - 1,
        electronegativity,
        radius,
        valence - 1,
        math.log(ionisation),
        affinity,
        block,
        None if volume is None else math.log(volume),
    )
    row, first = np.zeros(N_PROPERTIES), 0
    for value, (_, n, span) in zip(values, BLOCKS, strict=True):
        if value is not None:
            bin_ = value if span is None else int((value - span[0]) / (span[1] - span[0]) * n)
            row[first + min(max(bin_, 0), n - 1)] = 1.0
        first += n
    return row
