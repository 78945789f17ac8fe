"""dcharge: machine-learned electron densities on real-space grids.

`read`, `write`, `load` and `insert_grid` are the short way in; everything is imported on first use,
so that `dcharge -h` and `import dcharge` stay fast.
"""

__version__ = "0.1.0"

_WHERE = {
    "Structure": "structure",
    "Grid": "grid",
    "Density": "density",
    "PointDensity": "density",
    "InputError": "errors",
    "read": "io",
    "read_frames": "io",
    "write": "io",
    "load": "predict",
    "insert_grid": "interop",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'dcharge' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
