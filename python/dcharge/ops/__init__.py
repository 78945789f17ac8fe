"""Ops: one file each with formula, torch reference (the specification), public function, fake and autograd."""

from .gram import gram
from .library import kernels
from .moments import radial_moments
from .neighbors import neighbors
from .se_e2_a import contract, se_e2_a
from .switch import switch

__all__ = ["contract", "gram", "kernels", "neighbors", "radial_moments", "se_e2_a", "switch"]
