"""`probpose-edge benchmark`: files side by side on this machine, and which one to ship."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from probpose_cli.console import out, progress_bar
from probpose_cli.routed import ROUTED_HELP, RoutedFiles, multiply_adds, open_pair, parse_routed

if TYPE_CHECKING:
    from probpose_eval.benchmark.benchmark import Benchmark, FileTiming
    from probpose_eval.benchmark.latency import Latency
    from probpose_eval.routing.routing_cost import RoutingCost


def command(
    models: list[Path] = typer.Argument(..., help=".onnx, .tflite or, on a Mac, .mlpackage files of one kind of work."),
    threads: int = typer.Option(1, "--threads", help="Threads within one inference."),
    batch: int = typer.Option(1, "--batch", help="Persons at once."),
    rounds: int = typer.Option(50, "--rounds", help="Timed rounds; every round runs each file once."),
    routed: list[str] = typer.Option(
        [], "--routed", metavar="ROUTER:SMALL:LARGE", help=f"Also {ROUTED_HELP}, at shares from 0 to 100 %; repeatable."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print all numbers as JSON."),
) -> None:
    """Time files in turns on drawn people: the network alone, and the whole way from a picture to poses.

    Every file is loaded in a process of its own for load time and peak memory. Accuracy is for `report`.
    """
    from probpose_eval.benchmark.benchmark import benchmark_files
    from probpose_eval.benchmark.benchmark_verdict import benchmark_verdict

    pairs = [parse_routed(text) for text in routed]
    with progress_bar("measuring") as update:
        result = benchmark_files(
            models, threads=threads, batch=batch, rounds=rounds, progress=lambda what, done, total: update(done, total)
        )
        routing = {files.labels: _routing(files, threads, rounds) for files in pairs}
    verdict = benchmark_verdict(result)
    if as_json:
        rows = [
            {
                **dict(zip(("router", "small", "large"), labels, strict=True)),
                "costs": list(map(dataclasses.asdict, costs)),
            }
            for labels, costs in routing.items()
        ]
        typer.echo(json.dumps({**_document(result, verdict), "routing": rows}, indent=2))
        return
    machine = result.machine
    out.print(
        f"{machine.processor}, {machine.logical_cores} logical cores, {machine.system}; {threads} thread(s), batch "
        f"{batch}, medians of {rounds} rounds in turns \\[quartiles]"
    )
    out.print(_table(result))
    if result.peak is not None:
        out.print(
            f"large matrix product on this machine: int8 {result.peak.int8_gops:.0f} GOP/s, fp32 "
            f"{result.peak.fp32_gops:.0f} GOP/s"
        )
    measured = any(file.joules is not None for file in result.files)
    out.print(f"energy: {'of ' if measured else 'not measured, '}{result.energy}")
    for sentence in verdict:
        out.print(sentence)
    for labels, costs in routing.items():
        out.print(_routing_table(labels, costs))


def _routing(files: RoutedFiles, threads: int, rounds: int) -> tuple[RoutingCost, ...]:
    from probpose_eval.routing.routing_cost import drawn_pictures, measure_routing_cost

    pictures = drawn_pictures()
    turns = max(rounds // len(pictures), 1)
    with open_pair(files, threads=threads) as pair:
        macs = multiply_adds(files, pair)
        return measure_routing_cost(pair.router, pair.small, pair.large, pictures, rounds=turns, macs=macs)


def _routing_table(labels: tuple[str, str, str], costs: tuple[RoutingCost, ...]) -> Table:
    table = Table(title=f"{labels[1]} and {labels[2]}, mean of a person")
    for title in ("router, to the large one", "sent", "person ms", "M multiply-adds"):
        table.add_column(title, justify="left" if title.startswith("router") else "right")
    for cost in costs:
        macs = "–" if cost.macs is None else f"{cost.macs / 1e6:.0f}"
        table.add_row(f"{labels[0]}, {cost.share:.0%}", f"{cost.sent:.0%}", f"{cost.ms:.2f}", macs)
    return table


def _table(result: Benchmark) -> Table:
    table = Table()
    for title in ("file", "MB", "network ms", "crops/s", "person ms", "crops/s", "GOP/s", "load ms", "peak MB", "mJ"):
        table.add_column(title, justify="left" if title == "file" else "right")
    for file in result.files:
        gops = result.gops(file)
        table.add_row(
            file.path.name,
            f"{file.size_bytes / 1e6:.1f}",
            _text(file.network),
            f"{result.crops_per_second(file.network):.1f}",
            _text(file.person),
            f"{result.crops_per_second(file.person):.1f}",
            "–" if gops is None else f"{gops:.0f}",
            f"{file.footprint.load_ms:.0f}",
            "–" if file.footprint.peak_mb is None else f"{file.footprint.peak_mb:.0f}",
            "–" if file.joules is None else f"{1000 * file.joules:.1f}",
        )
    return table


def _text(latency: Latency) -> str:
    return f"{latency.median_ms:.2f} \\[{latency.lower_quartile_ms:.2f}, {latency.upper_quartile_ms:.2f}]"


def _document(result: Benchmark, verdict: tuple[str, ...]) -> dict[str, Any]:
    document = dataclasses.asdict(result)
    document["files"] = [_file_document(result, file) for file in result.files]
    return {**document, "verdict": list(verdict)}


def _file_document(result: Benchmark, file: FileTiming) -> dict[str, Any]:
    return {
        **dataclasses.asdict(file),
        "path": str(file.path),
        "network_crops_per_second": result.crops_per_second(file.network),
        "person_crops_per_second": result.crops_per_second(file.person),
        "gops": result.gops(file),
    }
