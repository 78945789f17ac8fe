"""Ops: one file each with formula, torch reference (the specification), public function, fake and autograd."""

from .crystal_convolution import crystal_convolution
from .crystal_network import CrystalLayer, CrystalNetwork, crystal_network
from .ead import ead, orbital_gram
from .ead_network import EadNetwork, ead_network
from .filtered_sums import filtered_sums
from .gram import gram
from .library import kernels
from .local_environments import local_environments
from .message_network import MessageLayer, MessageNetwork, message_network
from .moments import radial_moments
from .moments_network import FittingLayer, MomentsNetwork, moments_network
from .neighbors import neighbors
from .orbitals import orbital_sums
from .pair_messages import pair_messages
from .probe_messages import probe_messages
from .se_e2_a import contract, se_e2_a
from .switch import switch

__all__ = [
    "CrystalLayer",
    "CrystalNetwork",
    "EadNetwork",
    "FittingLayer",
    "MessageLayer",
    "MessageNetwork",
    "MomentsNetwork",
    "contract",
    "crystal_convolution",
    "crystal_network",
    "ead",
    "ead_network",
    "filtered_sums",
    "gram",
    "kernels",
    "local_environments",
    "message_network",
    "moments_network",
    "neighbors",
    "orbital_gram",
    "orbital_sums",
    "pair_messages",
    "probe_messages",
    "radial_moments",
    "se_e2_a",
    "switch",
]
