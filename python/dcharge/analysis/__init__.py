"""Derived quantities of densities and density responses, one observable per file, float64.

An observable is a module of this folder, named in OBSERVABLES, with

FLAG     name of the option that asks for it ("planar" for --planar), several that do, or None: always told
OPTIONS  {"--planar": keywords of argparse's add_argument}; every default is None or False
observe(density, options) -> Observation, options by name ("planar", "margin", ...); options["derivatives"], where a
         model gives the density: a function of it that yields (index, rho, gradient, Hessian)

`dcharge analyze` (report.py) takes options, tables and files from there: a new observable is a new file and its name
here.
"""

from __future__ import annotations

from importlib import import_module

OBSERVABLES = ("charge", "planar", "transferred", "potential", "dipole", "differential", "interaction")

_WHERE = {
    "planar_average": "planar",
    "macroscopic_average": "planar",
    "Profile": "planar",
    "total_charge": "charge",
    "transferred_charge": "transferred",
    "response_potential": "potential",
    "dipole_change": "dipole",
    "dipole_moment": "dipole",
    "gradient_and_laplacian": "differential",
    "iri": "interaction",
    "dori": "interaction",
    "analyze": "report",
}

__all__ = ["OBSERVABLES", "observables", *_WHERE]


def observables() -> list:
    """The modules of OBSERVABLES, in their order."""
    return [import_module(f".{name}", __name__) for name in OBSERVABLES]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'dcharge.analysis' has no attribute '{name}'")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
