"""Model families by their name in the input."""

from __future__ import annotations

from ..errors import InputError, nearest
from .base import Model
from .cgcnn import Cgcnn
from .cgcnn_probe import CgcnnProbe
from .deep_charge import DeepCharge
from .fireann import Fireann
from .painn import Painn
from .schnet import Schnet

FAMILIES = {
    "deep_charge": DeepCharge,
    "fireann": Fireann,
    "painn": Painn,
    "schnet": Schnet,
    "cgcnn": Cgcnn,
    "cgcnn_probe": CgcnnProbe,
}


def make_model(config: dict, seed: int = 1) -> Model:
    """Model from the `model` section of the input (all defaults filled), parameters initialised from `seed`."""
    if config["type"] not in FAMILIES:
        raise InputError(f"model/type: unknown family '{config['type']}'{nearest(config['type'], FAMILIES)}")
    return FAMILIES[config["type"]](config, seed=seed)


__all__ = ["FAMILIES", "Model", "make_model"]
