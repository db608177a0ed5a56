"""Write tests/numerics/*.json anew: `python -m tests.contract.golden`; the commit says why numbers change."""

from __future__ import annotations

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from recsys_zoo import create
from recsys_zoo.files import write_whole
from tests import toys
from tests.contract import harness


def main() -> None:
    names = {name: harness.shapes(harness.make(name)) for name in harness.CTR}
    ranking = [*harness.SCORERS, *harness.LISTS]
    names |= {name: harness.shapes(create(name, toys.ranking(12, 9))) for name in ranking}
    write_whole(harness.NUMERICS / "state_names.json", json.dumps(names, indent=1) + "\n")
    path = harness.NUMERICS / "golden.json"
    golden = json.loads(path.read_text()) if path.exists() else {}
    golden[harness.platform_key()] = {n: harness.golden_losses(n) for n in harness.CTR}
    golden[harness.DESCENT] = {n: harness.losses_of_descent(n) for n in harness.CTR}
    write_whole(path, json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
