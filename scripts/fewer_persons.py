"""Keep a random share of the labelled persons of a COCO keypoint file, to see what fewer persons give.

python scripts/fewer_persons.py person_keypoints.json fewer.json --share 0.125 --seed 0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from probpose_edge.atomic_write import write_text_atomically


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, required=True, help="share of the labelled persons to keep")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    document = json.loads(options.annotations.read_text())
    kept = keep_persons(document, options.share, options.seed)
    write_text_atomically(options.out, json.dumps(kept))
    print(f"{len(kept['annotations'])} of {len(document['annotations'])} annotations kept")


def keep_persons(document: dict[str, Any], share: float, seed: int) -> dict[str, Any]:
    """The document with `share` of its labelled persons, at least one, and the images that still have one."""
    labelled = [a for a in document["annotations"] if a.get("num_keypoints", 0) > 0 and not a.get("iscrowd", 0)]
    count = max(1, round(share * len(labelled)))
    chosen = set(np.random.default_rng(seed).permutation(len(labelled))[:count].tolist())
    annotations = [annotation for index, annotation in enumerate(labelled) if index in chosen]
    images = {annotation["image_id"] for annotation in annotations}
    return {
        **document,
        "annotations": annotations,
        "images": [image for image in document["images"] if image["id"] in images],
    }


if __name__ == "__main__":
    main()
