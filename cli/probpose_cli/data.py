"""`probpose-edge data`: cropped and drawn data sets, and what is wrong with a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from probpose_cli.console import out, progress_bar

if TYPE_CHECKING:
    from probpose_eval.checks.check_data import DataCheck
    from probpose_eval.checks.check_findings import Finding

app = typer.Typer(
    help="Make data sets, cropped ones and drawn ones, and check them.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("crop")
def crop(
    annotations: Path = typer.Argument(..., help="COCO keypoint annotations."),
    images: Path = typer.Argument(..., help="Folder of its pictures."),
    out_dir: Path = typer.Option(..., "--out", help="New folder for images/ and annotations.json."),
    seed: int = typer.Option(0, help="The same seed gives the same set."),
    padding: float = typer.Option(1.25, help="Activation window over the box; 1.5625 for models with two maps."),
) -> None:
    """A CropCOCO of one's own: crop every picture, recompute boxes, mark keypoints outside the window with v = 3."""
    from probpose_eval.annotations.crop_set import CropRecipe, domain_shares, write_crop_set

    with progress_bar("cropping") as update:
        made = write_crop_set(
            annotations, images, out_dir, seed=seed, recipe=CropRecipe(padding=padding), progress=update
        )
    shares = domain_shares(made.annotations, padding=padding)
    out.print(f"{len(made.annotations.images)} pictures, {len(made.annotations.persons)} persons in {out_dir}")
    out.print("keypoints by area (%): " + "  ".join(f"{name} {value:.1f}" for name, value in shares.items()))


@app.command("synth")
def synth(
    out_dir: Path = typer.Option(..., "--out", help="New folder for images/ and annotations.json."),
    count: int = typer.Option(64, min=1, help="Pictures."),
    seed: int = typer.Option(0, help="The same seed gives the same pictures."),
    skeleton: str = typer.Option("coco-17", help="coco-17, mpii-16, crowdpose-14, wholebody-133 or a JSON file."),
    padding: float = typer.Option(1.25, help="Activation window over the box; 1.5625 for models with two maps."),
) -> None:
    """Draw people with full truth: keypoints of any of these skeletons, occlusion, keypoints beyond the picture."""
    from probpose_edge.skeletons.skeleton_file import read_skeleton
    from probpose_eval.synth.set import write_synth_set

    with progress_bar("drawing") as update:
        chosen = read_skeleton(skeleton)
        write_synth_set(out_dir, count=count, seed=seed, skeleton=chosen, padding=padding, progress=update)
    out.print(f"{count} drawn pictures in {out_dir}")


@app.command("check")
def check(
    sources: list[str] = typer.Argument(..., help="annotations.json:images/, or annotations.json without pictures."),
    crop_seed: int | None = typer.Option(None, min=0, help="Also give the domain of a cropped version with this seed."),
    padding: float = typer.Option(1.25, help="Activation window over the box; 1.5625 for models with two maps."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """What is wrong with data sets and between them; exit code 1 if something is broken, remarks alone give 0."""
    from probpose_eval.checks.check_data import check_between, check_set

    checked = []
    for source in sources:
        annotations, _, images = source.partition(":")
        with progress_bar(annotations) as update:
            checked.append(
                check_set(
                    Path(annotations),
                    Path(images) if images else None,
                    crop_seed=crop_seed,
                    padding=padding,
                    progress=update,
                )
            )
    result = check_between(checked)
    if as_json:
        typer.echo(json.dumps(_as_document(result), indent=2))
    else:
        _print_check(result)
    if result.broken:
        raise typer.Exit(1)


def _as_document(result: DataCheck) -> dict[str, Any]:
    def documents(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
        return [asdict(finding) for finding in findings]

    return {
        "broken": result.broken,
        "sets": [
            {
                "name": one.name,
                "images": one.images,
                "persons": one.persons,
                "labelled_persons": one.labelled,
                "keypoint_names": list(one.keypoint_names),
                "findings": documents(one.findings),
                "domains_percent": one.domains,
            }
            for one in result.sets
        ],
        "between": [
            {"sets": list(names), "findings": documents(findings)} for names, findings in result.between.items()
        ],
    }


def _print_check(result: DataCheck) -> None:
    for one in result.sets:
        labelled = "unknown" if one.labelled is None else one.labelled
        pictures = "not read" if one.pictures is None else f"{len(one.pictures)} readable"
        out.print(f"{escape(one.name)}: {one.images} images ({pictures}), {one.persons} persons, {labelled} labelled")
        _print_findings(one.findings)
        if one.domains:
            table = Table("keypoints by area, %", *"ABCDE")
            for what, shares in one.domains.items():
                table.add_row(what, *(f"{share:.1f}" for share in shares.values()))
            out.print(table)
    for names, findings in result.between.items():
        out.print(f"between {escape(names[0])} and {escape(names[1])}:")
        _print_findings(findings)
    out.print("Something is broken." if result.broken else "Nothing is broken.")


def _print_findings(findings: tuple[Finding, ...]) -> None:
    if not findings:
        out.print("nothing found")
        return
    table = Table("", "found", "times", "for example")
    for finding in findings:
        mark = "broken" if finding.broken else "remark"
        table.add_row(mark, escape(finding.kind), str(finding.count), escape("\n".join(finding.examples[:2])))
    out.print(table)
