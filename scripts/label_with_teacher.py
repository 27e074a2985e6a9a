"""Label the face points that a partly labelled set lacks, with MoveNet as the teacher.

    python scripts/label_with_teacher.py keypoints_train.json images/ movenet.tflite out.json

A face point is taken over where the teacher is sure of it and where its shoulders, elbows, hips and knees agree
with the labels of the person; everything else stays unlabelled. The result is a copy of the annotation file.

With --blend, body points of agreeing persons on which the teacher is sure become the mean of label and teacher: both
err, independently, and the teacher places joints as COCO does. With --agreeing-only, other persons are left out: what
remains are the everyday poses that the teacher understands.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from movenet import MoveNet
from numpy.typing import NDArray
from rich.progress import track

from probpose_edge.atomic_write import write_text_atomically
from probpose_train.config import DataSource
from probpose_train.sources import PersonSet

FACE = slice(0, 5)
BODY = slice(5, 17)


def main() -> None:
    """Run the teacher over every person."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("teacher")
    parser.add_argument("out", type=Path)
    parser.add_argument("--min-score", type=float, default=0.4, help="teacher's score of a face point to take over")
    parser.add_argument("--max-distance", type=float, default=0.06, help="median body disagreement / box side")
    parser.add_argument("--blend", action="store_true", help="average sure body points of label and teacher")
    parser.add_argument("--agreeing-only", action="store_true", help="write only persons that the teacher agrees on")
    args = parser.parse_args()
    people = PersonSet(DataSource(annotations=str(args.annotations), images=str(args.images)))
    teacher = MoveNet(args.teacher, threads=2)
    found: dict[int, NDArray[np.float64]] = {}
    points = 0
    for index in track(range(len(people)), description="labelling faces"):
        person = people.person(index)
        guess = teacher(person.image, person.bbox_xyxy)
        side = float((person.bbox_xyxy[2:] - person.bbox_xyxy[:2]).max())
        labelled = person.keypoints[BODY, 2] > 0
        distance = np.linalg.norm(guess[BODY, :2] - person.keypoints[BODY, :2], axis=1)[labelled] / side
        if len(distance) < 6 or np.median(distance) > args.max_distance:
            continue
        labelled_before = person.keypoints[:, 2] > 0
        keypoints = person.keypoints.copy()
        sure = guess[:, 2] >= args.min_score
        new = sure & ~labelled_before & (np.arange(17) < FACE.stop)
        keypoints[new] = np.concatenate((guess[new, :2], np.full((int(new.sum()), 1), 2.0)), axis=1)
        if args.blend:
            near = np.linalg.norm(guess[:, :2] - keypoints[:, :2], axis=1) / side <= args.max_distance
            both = sure & labelled_before & near & (np.arange(17) >= BODY.start)
            keypoints[both, :2] = (keypoints[both, :2] + guess[both, :2]) / 2
        points += int(new.sum())
        found[people.persons[index].id] = keypoints
    document = json.loads(args.annotations.read_text())
    if args.agreeing_only:
        document["annotations"] = [a for a in document["annotations"] if a["id"] in found]
    for annotation in document["annotations"]:
        if annotation["id"] in found:
            annotation["keypoints"] = np.round(found[annotation["id"]], 2).reshape(-1).tolist()
            annotation["num_keypoints"] = int(sum(v > 0 for v in annotation["keypoints"][2::3]))
    document["info"] = {**document.get("info", {}), "teacher": Path(args.teacher).name}
    write_text_atomically(args.out, json.dumps(document))
    print(f"{len(found)} of {len(people)} persons agree with the teacher; {points} face points in them")


if __name__ == "__main__":
    main()
