"""What a run does between its intervals: validate, save, log, and draw what another person wants to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from probpose_edge.exceptions import TrainingError
from probpose_models.checkpoint import save_checkpoint
from probpose_train.config import TrainConfig
from probpose_train.describe_run import describe_data, write_data, write_environment, write_readme
from probpose_train.distributed import Group
from probpose_train.draw_curves import write_curves
from probpose_train.draw_samples import Shown, shown_of_training, shown_of_validation, write_maps, write_samples
from probpose_train.early_stopping import judge, should_stop
from probpose_train.prepare import Prepared
from probpose_train.run_folder import BEST, LAST, append_log, read_log, save_state
from probpose_train.state import TrainingState, capture
from probpose_train.validate import validate

Board = Callable[[dict[str, float | int]], None]
SHOWN_SAMPLES, SHOWN_MAPS = 16, 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Reporter:
    """Writes the folder of one run; exists in the first process only."""

    config: TrainConfig
    folder: Path
    prepared: Prepared
    console: Console
    board: Board
    shown: Shown
    draw_curves: Callable[[Path], None]

    def report(self, state: TrainingState, row: dict[str, float | int]) -> bool:
        """Judge the averaged weights, complete the row of the log with their figures, and write everything that the
        next start or another person needs. Returns whether the run should stop."""
        network, contract = state.average.module, self.prepared.contract
        for prefix, data in self.prepared.validation.items():
            row |= validate(network, contract, data, prefix)
        state.progress = judge(state.progress, row, self.config)
        try:
            save_checkpoint(self.folder / LAST, network, contract)
            if state.progress.waited == 0:
                save_checkpoint(self.folder / BEST, network, contract)
            # The log first: a run killed in between repeats this interval, and `resume` drops its row.
            append_log(self.folder, row)
            save_state(self.folder, capture(state, self.config))
            write_maps(self.folder, network, contract, self.shown)
            self.draw_curves(self.folder)
            write_readme(self.folder, self.config, read_log(self.folder))
        except OSError as error:
            raise TrainingError(
                f"The run folder {self.folder} must take a checkpoint at step {state.step}, but writing failed: "
                f"{error.strerror or error}. Free some space and continue with --resume "
                "from the checkpoint before, which is whole, or start again if there was none."
            ) from error
        self.board(row)
        self.console.print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        stop = should_stop(state.progress, self.config)
        if stop:
            self.console.print(
                f"Stopped: {self.config.select_by} of the validation set last rose {state.progress.waited} reports ago."
            )
        return stop


def open_reporter(
    config: TrainConfig, folder: Path, prepared: Prepared, group: Group, console: Console, step: int
) -> Reporter:
    """Write what is known before the first step, and find out what can be drawn."""
    samples = shown_of_training(prepared.stream, prepared.contract, min(SHOWN_SAMPLES, config.samples))
    for name in write_data(folder, describe_data(config, prepared)):
        console.print(f"{name} is not what it was when this run began; its samples differ from now on.")
    write_environment(folder, group, step)
    write_samples(folder, samples, prepared.contract)
    write_readme(folder, config, read_log(folder))
    judged = next(iter(prepared.validation.values()), None)
    if judged is None:
        count = min(SHOWN_MAPS, len(samples.crops))
        shown = Shown(crops=samples.crops[:count], targets=type(samples.targets)(*(v[:count] for v in samples.targets)))
    else:
        shown = shown_of_validation(judged, prepared.contract, SHOWN_MAPS)
    return Reporter(
        config=config,
        folder=folder,
        prepared=prepared,
        console=console,
        board=_tensorboard(folder, console),
        shown=shown,
        draw_curves=_curves(console),
    )


def _curves(console: Console) -> Callable[[Path], None]:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        message = 'matplotlib is not installed, so curves.png is not drawn. Get it with "probpose-edge[eval]".'
        console.print(message, markup=False)
        return lambda folder: None
    return write_curves


def _tensorboard(folder: Path, console: Console) -> Board:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        console.print("TensorBoard is not installed; the log is in log.csv only.")
        return lambda row: None
    writer = SummaryWriter(folder / "tensorboard")

    def add(row: dict[str, float | int]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, float(value), int(row["step"]))
        writer.flush()

    return add
