"""Makes version1.pth, a tiny frozen model, and version1.json, densities it predicts.

    python tests/data/frozen/make.py

Every version of dcharge must read these files and predict these densities: do not make them again, unless no
version that wrote them was ever released. A new version of the format gets files of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from tiny import density, model_config, predicted  # noqa: E402

from dcharge.batch import Batch  # noqa: E402
from dcharge.freeze import VERSION, save_frozen  # noqa: E402
from dcharge.models import make_model  # noqa: E402


def main() -> None:
    """Write the files."""
    model = make_model(model_config(), seed=1)
    rho = density(0)
    points, target = torch.tensor(rho.points()), torch.tensor(rho.total.reshape(-1, 1))
    one, zero = torch.ones(len(points), dtype=torch.float64), torch.zeros(len(points), dtype=torch.int64)
    model.calibrate(Batch.collate([rho.structure], model.type_map), points, zero, target, one)
    save_frozen(model, HERE / f"version{VERSION}.pth", {"dcharge": "0.1.0", "checkpoint": "made by tests/data/frozen"})
    some = np.random.default_rng(0).uniform(-2, 7, (12, 3))
    content = {
        "numbers": rho.structure.numbers.tolist(),
        "positions": rho.structure.positions.tolist(),
        "cell": rho.structure.cell.tolist(),
        "pbc": rho.structure.pbc.tolist(),
        "points": some.tolist(),
        "density": predicted(model, rho.structure, some)[:, 0].tolist(),
    }
    (HERE / f"version{VERSION}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
