"""Measure the CoreML files of this kit on this Mac; writes measured.json beside this file.

pip install "probpose-edge[coreml]"
python run_on_mac.py
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    try:
        from probpose_edge.exceptions import ProbPoseError
        from probpose_eval.mac.measure_kit import measure_kit
    except ImportError as error:
        sys.exit(f'error: {error}. Install what is missing with: pip install "probpose-edge[coreml]"')
    folder = Path(__file__).resolve().parent
    target = folder / "measured.json"
    try:
        measure_kit(folder, target, progress=_show)
    except ProbPoseError as error:
        sys.exit(f"\nerror: {error}")
    print(f"\nwrote {target}")


def _show(stage: str, done: int, total: int) -> None:
    print(f"\r{stage}: {done}/{total}    ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
