"""Makes version1.pth, a tiny frozen model, and version1.json, densities it predicts.

    python tests/data/frozen/make.py

Every version of dcharge must read these files and predict these densities: do not make them again, unless no
version that wrote them was ever released. A new version of the format gets files of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tiny import predicted, structure, tiny_model  # noqa: E402

from dcharge.freeze import VERSION, save_frozen  # noqa: E402


def main() -> None:
    """Write the files."""
    model, s = tiny_model(), structure(0)
    save_frozen(model, HERE / f"version{VERSION}.pth", {"dcharge": "0.1.0", "checkpoint": "made by tests/data/frozen"})
    some = np.random.default_rng(0).uniform(-2, 7, (12, 3))
    content = {
        "numbers": s.numbers.tolist(),
        "positions": s.positions.tolist(),
        "cell": s.cell.tolist(),
        "pbc": s.pbc.tolist(),
        "points": some.tolist(),
        "density": predicted(model, s, some)[:, 0].tolist(),
    }
    (HERE / f"version{VERSION}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
