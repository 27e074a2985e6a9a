"""`probpose-edge data`: cropped and drawn data sets."""

from __future__ import annotations

from pathlib import Path

import typer

from probpose_cli.console import out, progress_bar

app = typer.Typer(help="Make data sets: cropped ones and drawn ones.", no_args_is_help=True, rich_markup_mode=None)


@app.command("crop")
def crop(
    annotations: Path = typer.Argument(..., help="COCO keypoint annotations."),
    images: Path = typer.Argument(..., help="Folder of its pictures."),
    out_dir: Path = typer.Option(..., "--out", help="New folder for images/ and annotations.json."),
    seed: int = typer.Option(0, help="The same seed gives the same set."),
    padding: float = typer.Option(1.25, help="Activation window over the box; 1.5625 for models with two maps."),
) -> None:
    """A CropCOCO of one's own: crop every picture, recompute boxes, mark keypoints outside the window with v = 3."""
    from probpose_eval.crop_set import CropRecipe, domain_shares, write_crop_set

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
) -> None:
    """Draw people with full truth: keypoints of any of these skeletons, occlusion, keypoints beyond the picture."""
    from probpose_edge.skeleton_file import read_skeleton
    from probpose_eval.synth_set import write_synth_set

    with progress_bar("drawing") as update:
        write_synth_set(out_dir, count=count, seed=seed, skeleton=read_skeleton(skeleton), progress=update)
    out.print(f"{count} drawn pictures in {out_dir}")
