"""What is wrong with data sets, alone and together, and which domain each is from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probpose_edge.exceptions import AnnotationError
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons, parse_annotations
from probpose_eval.annotations.coco_category import person_category
from probpose_eval.annotations.coco_forms import join_whole_body, refuse_other_forms
from probpose_eval.annotations.crop_set import CropRecipe, crop_annotations, domain_shares
from probpose_eval.checks.check_annotations import check_images, check_persons
from probpose_eval.checks.check_findings import Finding, Findings
from probpose_eval.checks.check_leakage import check_leakage
from probpose_eval.checks.check_pictures import CheckedPicture, check_pictures

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class SetCheck:
    """What was found in one set.

    Attributes
    ----------
    name: the annotation file. images, persons: how many entries. labelled: persons that count; None if unknown.
    findings: what is wrong, the broken first.
    domains: what → percent of keypoints in the areas A to E (see `domain_shares`); empty for a file that breaks a rule.
    keypoint_names: of its category. file_names: of its image entries.
    pictures: those that could be read; None if their folder was not given.
    """

    name: str
    images: int
    persons: int
    labelled: int | None
    findings: tuple[Finding, ...]
    domains: dict[str, dict[str, float]]
    keypoint_names: tuple[str, ...]
    file_names: tuple[str, ...]
    pictures: tuple[CheckedPicture, ...] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class DataCheck:
    """What was found in sets, and between them: pairs of their names → findings."""

    sets: tuple[SetCheck, ...]
    between: dict[tuple[str, str], tuple[Finding, ...]]

    @property
    def broken(self) -> bool:
        """Whether anything must be repaired."""
        found = [*(s.findings for s in self.sets), *self.between.values()]
        return any(finding.broken for findings in found for finding in findings)


def check_set(
    annotations: Path,
    images_dir: Path | None,
    *,
    crop_seed: int | None = None,
    padding: float = 1.25,
    progress: Progress | None = None,
) -> SetCheck:
    """Check one annotation file, and its pictures if their folder is given.

    crop_seed: also give the domain that `data crop` would make of the set with this seed. padding: activation window
    over the box, for the domains. progress: called with (pictures done, pictures in all).

    Raises `AnnotationError` for a file that is no COCO keypoint file at all.
    """
    document = _document(annotations)
    category = person_category(document["categories"], str(annotations))
    findings = Findings()
    images = check_images(document["images"], findings)
    persons = check_persons(document["annotations"], images, category, findings)
    pictures: tuple[CheckedPicture, ...] | None = None
    if images_dir is not None:
        pictures = check_pictures(images, images_dir, findings, progress=progress)
    domains: dict[str, dict[str, float]] = {}
    labelled = None
    try:
        parsed = parse_annotations(document, source=str(annotations))
    except AnnotationError as error:
        if not any(finding.broken for finding in findings.all()):
            findings.broken("annotations that cannot be used", str(error))
    else:
        labelled = len(labelled_persons(parsed))
        domains = _domains(parsed, crop_seed, padding)
    return SetCheck(
        name=str(annotations),
        images=len(document["images"]),
        persons=persons,
        labelled=labelled,
        findings=findings.all(),
        domains=domains,
        keypoint_names=tuple(category["keypoints"]),
        file_names=tuple(record["file_name"] for record in images.values()),
        pictures=pictures,
    )


def check_between(sets: Sequence[SetCheck]) -> DataCheck:
    """The sets with what is wrong between any two of them: shared pictures, other keypoints."""
    between: dict[tuple[str, str], tuple[Finding, ...]] = {}
    for index, one in enumerate(sets):
        for other in sets[index + 1 :]:
            findings = Findings()
            if one.keypoint_names != other.keypoint_names:
                findings.broken("different keypoints", _difference(one.keypoint_names, other.keypoint_names))
            if one.pictures is not None and other.pictures is not None:
                check_leakage(one.pictures, other.pictures, findings)
            else:
                for name in sorted(set(one.file_names) & set(other.file_names)):
                    findings.broken("leakage: the same name (pictures not read)", name)
            between[one.name, other.name] = findings.all()
    return DataCheck(sets=tuple(sets), between=between)


def complete_pictures(annotations: AnnotationSet) -> AnnotationSet | None:
    """The part of a set whose pictures are marked ``complete_annotations``; None if no picture is marked not to be."""
    partial = {i for i, entry in annotations.images.items() if entry.extra.get("complete_annotations") is False}
    if not partial:
        return None
    images = {i: entry for i, entry in annotations.images.items() if i not in partial}
    persons = tuple(person for person in annotations.persons if person.image_id in images)
    return dataclasses.replace(annotations, images=images, persons=persons)


def _domains(annotations: AnnotationSet, crop_seed: int | None, padding: float) -> dict[str, dict[str, float]]:
    domains = {"all pictures": domain_shares(annotations, padding=padding)}
    complete = complete_pictures(annotations)
    if complete is not None:
        domains["pictures with every person"] = domain_shares(complete, padding=padding)
    if crop_seed is not None:
        # Of a picture with one of its persons in the file, this one would be cropped every time.
        cropped = crop_annotations(complete or annotations, seed=crop_seed, recipe=CropRecipe(padding=padding))
        what = "these, cropped with" if complete is not None else "cropped with"
        domains[f"{what} seed {crop_seed}"] = domain_shares(cropped.annotations, padding=padding)
    return domains


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(
            f"The annotation file {path} cannot be read: {error.strerror}. Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(
            f"An annotation file must be JSON, but {path} is not: {error}. Give a COCO keypoint annotation file."
        ) from error
    refuse_other_forms(document, str(path))
    if not isinstance(document, dict) or not all(
        isinstance(document.get(name), list) for name in ("images", "annotations", "categories")
    ):
        raise AnnotationError(
            f"An annotation file must hold the lists images, annotations and categories, but {path} does not. "
            "Give a COCO keypoint annotation file."
        )
    return join_whole_body(document, str(path))


def _difference(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    only, missing = [n for n in one if n not in other], [n for n in other if n not in one]
    if not only and not missing:
        return "the same names in another order"
    return f"only the first has {', '.join(only) or 'none'}; only the second has {', '.join(missing) or 'none'}"
