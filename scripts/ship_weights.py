"""Turn the best checkpoint of a run into the files that the package ships.

    python scripts/ship_weights.py runs/m/best.safetensors --val val.json:images/ --calib train.json:images/

Writes the float16 checkpoint, with its accuracy on the validation set in its metadata, into models/, and the INT8 ONNX
and TFLite files made from it into sdk/. The files are what `probpose-edge convert` would write, and all three are
calibrated, as `probpose-edge calibrate` would, on the calibration set.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from probpose_convert.calibration_crops import read_calibration_crops
from probpose_convert.convert_all import convert_all
from probpose_edge.estimator import PoseEstimator
from probpose_eval.annotations.coco import read_annotations
from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.predict import predict_set
from probpose_models.checkpoint import load_checkpoint, save_checkpoint
from probpose_models.torch_runtime import TorchRuntime

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "models" / "probpose_models" / "weights" / "probpose-m.safetensors"
SDK_WEIGHTS = ROOT / "sdk" / "probpose_edge" / "weights"


def main() -> None:
    """Round to float16, measure, convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--val", required=True, help="annotations.json:images/")
    parser.add_argument("--calib", required=True, help="annotations.json:images/")
    parser.add_argument("--threshold", default="balanced", help="presence threshold, as for `probpose-edge calibrate`")
    args = parser.parse_args()
    model, contract = load_checkpoint(args.checkpoint)
    contract = contract.replace(precision="fp16", recipe="fp16", checkpoint_sha256="", accuracy={})
    save_checkpoint(CHECKPOINT, model, contract)
    # Measured after rounding, on what ships.
    model, contract = load_checkpoint(CHECKPOINT)
    annotations_path, _, images = args.val.partition(":")
    annotations = read_annotations(annotations_path)
    results = predict_set(PoseEstimator(TorchRuntime(model), contract), annotations, images)
    instance, standard = mean_oks(annotations, results), evaluate(annotations, results)
    accuracy = {
        f"{Path(annotations_path).stem}: mean OKS, {len(instance.oks)} persons": round(instance.mean, 4),
        f"{Path(annotations_path).stem}: AP": round(standard["AP"], 4),
    }
    save_checkpoint(CHECKPOINT, model, contract.replace(checkpoint_sha256="", accuracy=accuracy))
    calibrate([CHECKPOINT], args.calib, args.threshold)
    calibration, parity = read_calibration_crops(args.calib, 384)
    results = convert_all(
        CHECKPOINT,
        [("onnx", "int8"), ("tflite", "int8")],
        SDK_WEIGHTS,
        calibration_crops=calibration,
        parity_crops=parity,
    )
    calibrate([result.path for result in results], args.calib, args.threshold)
    for result in results:
        print(result.path, result.size_bytes, result.parity)
    print(accuracy)


def calibrate(paths: list[Path], data: str, threshold: str) -> None:
    """`probpose-edge calibrate`, in place; the quality stays, because the set is one that was trained on."""
    command = ["probpose-edge", "calibrate", *map(str, paths), "--data", data, "--threshold", threshold, "--no-quality"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
