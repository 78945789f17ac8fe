"""Machines with a GPU often lack packages that only reading files needs: what dcharge's nouns take of ase."""

from __future__ import annotations

import importlib.util
import sys
import types

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y "
    "Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os "
    "Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn "
    "Nh Fl Mc Lv Ts Og"
).split()


def without_ase() -> bool:
    """Put stand-ins for ase into sys.modules where it is not installed; True where that was needed."""
    if importlib.util.find_spec("ase") is not None:
        return False
    ase, data, units = (types.ModuleType(name) for name in ("ase", "ase.data", "ase.units"))
    ase.Atoms = type("Atoms", (), {})
    data.chemical_symbols = list(SYMBOLS)
    data.atomic_numbers = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    units.Bohr = 0.5291772105638411
    ase.data, ase.units = data, units
    sys.modules.update({"ase": ase, "ase.data": data, "ase.units": units})
    return True
