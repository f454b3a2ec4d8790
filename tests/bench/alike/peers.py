"""Other tools on the same files: which pairs of original and copy does each find?"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.bench.report import RivalUnavailable, rival_python

IMAGEHASH_DISTANCE = 8  # as ours; the usual one

_HASHED_BY = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
root = Path(sys.argv[1])
{hasher}
hashes = {{
    folder.name: np.stack([bits(str(file)) for file in sorted(folder.iterdir())])
    for folder in root.iterdir()
}}
first = hashes.pop("originals")
pairs = {{
    name: np.argwhere((first[:, None] != second).sum(axis=2) <= {distance}).tolist()
    for name, second in hashes.items()
}}
print("PAIRS", json.dumps(pairs))
"""

_IMAGEDEDUP = """
from imagededup.methods import {method}
hasher = {method}(verbose=False)
def bits(file):
    return np.array([int(each, 16) >> at & 1 for each in hasher.encode_image(file) for at in range(4)])
"""

PEERS: dict[str, tuple[tuple[str, ...], str]] = {
    "imagehash": (
        ("imagehash",),
        _HASHED_BY.format(
            hasher="import imagehash\n"
            "def bits(file):\n    return imagehash.phash(Image.open(file)).hash.ravel()\n",
            distance=IMAGEHASH_DISTANCE,
        ),
    ),
    "imagededup phash": (
        ("imagededup", "setuptools<81"),
        _HASHED_BY.format(hasher=_IMAGEDEDUP.format(method="PHash"), distance=10),  # its default
    ),
    "imagededup dhash": (
        ("imagededup", "setuptools<81"),
        _HASHED_BY.format(hasher=_IMAGEDEDUP.format(method="DHash"), distance=10),
    ),
    "pdqhash": (
        ("pdqhash", "numpy", "pillow"),
        _HASHED_BY.format(
            hasher="import pdqhash\n"
            "def bits(file):\n    return pdqhash.compute(np.array(Image.open(file)))[0]\n",
            distance=31,  # of 256: its makers' own
        ),
    ),
    "cleanvision": (
        ("cleanvision",),
        """
import contextlib, io, json, sys
from pathlib import Path
from cleanvision import Imagelab
root = Path(sys.argv[1])
originals = sorted(map(str, (root / "originals").iterdir()))
pairs = {}
for folder in sorted(root.iterdir()):
    if folder.name == "originals":
        continue
    copies = sorted(map(str, folder.iterdir()))
    position = {Path(each).resolve(): (0, at) for at, each in enumerate(originals)}
    position |= {Path(each).resolve(): (1, at) for at, each in enumerate(copies)}
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(filepaths=originals + copies)
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1)
    pairs[folder.name] = [
        [one[1], other[1]]
        for kind in ("exact_duplicates", "near_duplicates")
        for group in lab.info[kind]["sets"]
        for one in (position[Path(each).resolve()] for each in group)
        for other in (position[Path(each).resolve()] for each in group)
        if one[0] == 0 and other[0] == 1
    ]
print("PAIRS", json.dumps(pairs))
""",
    ),
}
"""What has to be installed, and a script that prints the pairs of each folder."""


def pairs_found_by(name: str, folder: Path) -> dict[str, list[list[int]]] | None:
    """Return the pairs that a peer finds, by the name of the change; None if it does not run here."""
    packages, script = PEERS[name]
    try:
        python = rival_python(f"dedupe-{packages[0]}", *packages)
        ran = subprocess.run(
            [python, "-c", script, folder], check=True, capture_output=True, text=True
        )
    except RivalUnavailable as unavailable:
        print(unavailable)
        return None
    except subprocess.CalledProcessError as error:
        print(f"{name} does not run: {error.stderr[-300:]}")
        return None
    line = next(each for each in ran.stdout.splitlines() if each.startswith("PAIRS "))
    pairs: dict[str, list[list[int]]] = json.loads(line.removeprefix("PAIRS "))
    return pairs
