"""The founding experiment with real photographs: how good, before and after one round of correcting.

Three afternoons, each with another third of `turntable_vinyl` held out, are judged together: every
photograph once, by models that never saw it. The set has 145 photographs (36 with a turntable, 54
with a record); the story that it re-enacts had about 80 to train on, with 58 and 50. The stand-in
weights are not CLIP, and these are not CLIP's figures. How the afternoon goes: tests/flows/afternoon.py.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from flows.settings import Settings
from tests.bench.report import Row, shared_folder, write
from tests.bench.stored import loopback_store
from tests.flows.afternoon import THIRDS, WHO, Afternoon, Judged, open_project, spend_afternoon


def main() -> None:
    """Run the afternoons, print what the README quotes, and write `.bench/founding.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="draws of the person's slips")
    seeds = parser.parse_args().seeds
    with loopback_store() as (folder, settings, _):
        afternoons = [
            _afternoon(folder, settings, third, seed)
            for seed in range(seeds)
            for third in range(THIRDS)
        ]
    together = Judged.together([each.judged for each in afternoons])
    print(_table(together))
    for over, who in itertools.pairwise(WHO):
        gain = together.gain(who, over)
        print(f"macro F1, {who} less {over}: {gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
    write("founding", _rows(together), runs=len(afternoons), notes="stand-in weights, not CLIP")


def _afternoon(folder: Path, settings: Settings, third: int, seed: int) -> Afternoon:
    name = f"seed-{seed}-third-{third}"
    workspace = open_project(
        folder / name,
        settings.model_copy(update={"prefix": name}),
        shared_folder() / "weights" / "standin",
    )
    found = spend_afternoon(
        workspace, shared_folder() / "data" / "turntable_vinyl", third=third, seed=seed
    )
    print(
        f"{found.imported}\n{found.prelabelled}\n{found.first}\n"
        f"answers {found.decided[0]} then {found.decided[1]}, {found.looked_at_again} suspected, "
        f"{found.slips_found} of {found.slips} slips among them\n{found.second}\n",
        flush=True,
    )
    return found


def _table(judged: Judged) -> str:
    lines = ["| | at | label | precision | recall | F1 |", "|---|---|---|---|---|---|"]
    for who in WHO:
        for at_half in (True, False):
            found = judged.evaluation(who, at_half=at_half)
            said = "0.5" if at_half else "chosen"
            lines += [
                f"| {who} | {said} | {each.label} | {each.precision} | {each.recall} | {each.f1} |"
                for each in found.labels
            ]
            lines.append(f"| {who} | {said} | macro | | | {found.macro_f1} |")
    return "\n".join(lines)


def _rows(judged: Judged) -> list[Row]:
    rows = []
    for who in WHO:
        for at_half in (True, False):
            found = judged.evaluation(who, at_half=at_half)
            said = "0.5" if at_half else "chosen thresholds"
            for each in found.labels:
                for name in ("precision", "recall"):
                    interval = getattr(each, name)
                    rows.append(
                        Row(
                            name=f"{who}, {each.label}, {name} at {said} "
                            f"[{interval.low:.2f}, {interval.high:.2f}]",
                            unit="",
                            value=interval.value,
                        )
                    )
            rows.append(
                Row(
                    name=f"{who}, macro F1 at {said} "
                    f"[{found.macro_f1.low:.2f}, {found.macro_f1.high:.2f}]",
                    unit="",
                    value=found.macro_f1.value,
                )
            )
    return rows


if __name__ == "__main__":
    main()
