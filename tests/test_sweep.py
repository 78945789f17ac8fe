"""A predicted density does not depend on how it is computed: tile size, threads, instruction set (float32, 1e-5)."""

import itertools

import numpy as np
import pytest
import torch
from tiny import SKEWED, calibrated, model_config, structure

import dcharge
from dcharge.freeze import save_frozen
from dcharge.ops import library

LIMIT = 1e-5  # of the largest value
SHAPE = (13, 12, 11)  # more points than a tile of the kernels holds
TILES = (53, 600, 100_000)
THREADS = (1, 3)
ISAS = ("avx512", "avx2", "baseline")
ORDERS = [(0, "joint"), (1, "joint"), (0, "per_l"), (1, "per_l"), (2, "per_l"), (3, "per_l")]
MODELS = {f"{gram}{l_max}": {"descriptor": {"l_max": l_max, "gram": gram}} for l_max, gram in ORDERS} | {
    f"fireann-{variant}": {"type": "fireann", "variant": variant} for variant in ("v1", "equi")
}
SPECIES = {"one": (["Si"], (14, 14, 14)), "two": (["Si", "O"], (14, 8, 8, 14))}
SYSTEMS = {
    "skewed": {"cell": np.array([[5.0, 0.0, 0.0], [3.9, 4.0, 0.0], [-2.7, 2.6, 5.0]])},
    "slab": {"cell": SKEWED * [[1], [1], [3]], "pbc": (True, True, False)},
    "small": {"cell": np.diag([1.9, 2.2, 2.4]) + 0.1, "pbc": True},  # the cutoff is 4 Angstrom
}


def system(name, numbers):
    if name == "small":
        return structure(1, numbers=numbers[:1], **SYSTEMS[name])
    return structure(1, numbers=numbers, **SYSTEMS[name])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Function: (species, name of the model) -> path of a frozen model, made once."""
    folder, made = tmp_path_factory.mktemp("sweep"), {}

    def path(species, name):
        if (species, name) not in made:
            type_map, numbers = SPECIES[species]
            made[species, name] = folder / f"{species}-{name}.pth"
            model = calibrated(model_config(MODELS[name], {"type_map": type_map}), numbers=numbers)
            save_frozen(model, made[species, name], {})
        return made[species, name]

    return path


@pytest.fixture
def settings(monkeypatch):
    """Iterator over (isa, threads) as set; all as before afterwards. Every setting that this machine has."""
    before = library.isa(), torch.get_num_threads()

    def sweep():
        for isa, threads in itertools.product(ISAS, THREADS):
            if library.select_isa(isa):
                torch.set_num_threads(threads)
                yield isa, threads
        torch.set_num_threads(1)
        with monkeypatch.context() as patch:
            patch.setattr(library, "_library", None)
            yield "reference", 1

    yield sweep
    library.select_isa(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("model", MODELS)
def test_same_density(models, settings, species, model, name):
    """The spread of whole-grid predictions over all settings."""
    path, s = models(species, model), system(name, SPECIES[species][1])
    low = high = None
    for isa, _ in settings():
        predictor = dcharge.load(path, "cpu")
        for tile in TILES if isa != "reference" else TILES[1:2]:
            predictor.tile = tile
            rho = predictor.predict(s, shape=SHAPE).values.astype(np.float64)
            low, high = (rho, rho) if low is None else (np.minimum(low, rho), np.maximum(high, rho))
    largest = np.abs(high).max()
    assert np.ptp(high) > 0.01 * largest > 1e-4  # a constant would prove nothing
    assert (high - low).max() < LIMIT * largest


def test_settings_are_real(settings):
    """The sweep covers several settings, and switching changes what computes."""
    seen = [(isa, threads, library.isa(), torch.get_num_threads()) for isa, threads in settings()]
    assert seen[-1] == ("reference", 1, "", 1)
    assert all(seen_isa == isa and n == threads for isa, threads, seen_isa, n in seen[:-1])
    if library.loaded():
        assert {threads for _, threads, _, _ in seen} == set(THREADS) and "baseline" in {s[0] for s in seen}
