"""Files side by side: what is measured, what is refused, and what the verdict says."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import InputError, MetadataError, ModelFileError
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.weights import shipped_model
from probpose_eval.benchmark import benchmark as benchmark_module
from probpose_eval.benchmark.arithmetic_peak import ArithmeticPeak, _product, measure_arithmetic_peak
from probpose_eval.benchmark.benchmark import Benchmark, FileTiming, benchmark_files
from probpose_eval.benchmark.benchmark_verdict import benchmark_verdict
from probpose_eval.benchmark.energy import find_energy_meter
from probpose_eval.benchmark.footprint import Footprint, measure_footprint
from probpose_eval.benchmark.latency import Latency, describe_machine, measure_calls
from probpose_eval.benchmark.operator_profile import OperatorProfile, profile_operators

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

PROBPOSE_M_MACS = 689_537_280
"""The 0.69 G multiply-adds of the convolutions of probpose-m at 256 x 192."""


def latency(median_ms: float) -> Latency:
    return Latency(median_ms=median_ms, lower_quartile_ms=median_ms - 1, upper_quartile_ms=median_ms + 1, rounds=10)


def timing(name: str, ms: float, **changes: Any) -> FileTiming:
    path = Path(name)
    precision = "int8" if "int8" in name else "fp16" if "fp16" in name else "fp32"
    macs = (600, 89) if precision == "int8" else (0, 689)
    values: dict[str, Any] = {
        "path": path,
        "model": "probpose-m",
        "format": path.suffix[1:],
        "precision": precision,
        "recipe": precision,
        "output_kind": "logits",
        "size_bytes": {"fp32": 14_000_000, "fp16": 7_000_000, "int8": 4_000_000}[precision],
        "runtime": "onnxruntime",
        "network": latency(ms),
        "person": latency(ms + 2),
        "footprint": Footprint(load_ms=20, peak_mb=100, model_mb=30),
        "operators": OperatorProfile(int8_macs=macs[0] * 10**6, float_macs=macs[1] * 10**6, slow=()),
        "joules": None,
    }
    return FileTiming(**{**values, **changes})


def benchmark(*files: FileTiming, **changes: Any) -> Benchmark:
    peak = ArithmeticPeak(int8_gops=400, fp32_gops=100, threads=1)
    values: dict[str, Any] = {
        "files": files,
        "machine": describe_machine(),
        "threads": 1,
        "batch": 1,
        "rounds": 10,
        "peak": peak,
        "energy": "nothing tells",
    }
    return Benchmark(**{**values, **changes})


def test_shipped_files_in_one_run() -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra tflite")
    paths = [shipped_model("onnx"), shipped_model("tflite")]
    told: list[tuple[str, int, int]] = []
    result = benchmark_files(paths, batch=2, rounds=2, progress=lambda *now: told.append(now))
    assert [file.path for file in result.files] == paths
    for file in result.files:
        assert 0 < file.network.lower_quartile_ms <= file.network.median_ms <= file.network.upper_quartile_ms
        # Crops and decode are part of the whole way; two rounds on a busy machine may still hide them.
        assert file.person.median_ms > 0.5 * file.network.median_ms
        assert result.crops_per_second(file.network) == pytest.approx(2000 / file.network.median_ms)
        assert file.size_bytes == file.path.stat().st_size
        assert file.operators is not None
        assert file.operators.macs == PROBPOSE_M_MACS
        gops = result.gops(file)
        assert gops == pytest.approx(2e-9 * PROBPOSE_M_MACS * result.crops_per_second(file.network))
    assert result.peak is not None
    assert {what for what, _, _ in told} == {"timing", "memory and operators"}
    assert benchmark_verdict(result)[0].startswith("Ship probpose-m-int8.")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rounds": 0}, "needs rounds of at least 1, got 0"),
        ({"threads": 0}, "needs threads of at least 1, got 0"),
        ({"batch": -1}, "needs batch of at least 1, got -1"),
        ({"paths": []}, "at least one model file, got none"),
        ({"paths": [shipped_model("onnx"), shipped_model("onnx")]}, "named once, but one was named twice"),
    ],
)
def test_arguments_that_are_refused(changes: dict[str, Any], text: str) -> None:
    values = {"paths": [shipped_model("onnx")], **changes}
    with pytest.raises(InputError, match=text):
        benchmark_files(values.pop("paths"), **values)


def test_an_unreadable_file_in_the_middle_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_module, "measure_calls", lambda *a, **k: pytest.fail("something was timed"))
    broken, foreign = tmp_path / "broken.onnx", tmp_path / "foreign.tflite"
    broken.write_bytes(shipped_model("onnx").read_bytes()[:5000])
    foreign.write_bytes(b"\0\0\0\0TFL3 somebody else's")
    good = shipped_model("onnx")
    with pytest.raises(ModelFileError, match=r"broken.onnx is not a complete ONNX model: .* Copy it again"):
        benchmark_files([good, broken, shipped_model("tflite")])
    with pytest.raises(MetadataError, match=r"foreign\.tflite carries no probpose-edge metadata"):
        benchmark_files([good, foreign])
    with pytest.raises(ModelFileError, match=r"There is no model file .*gone.onnx. Check the path"):
        benchmark_files([good, tmp_path / "gone.onnx"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"input_wh": (288, 384)}, "same input size, but one.onnx has 192x256 and other.onnx has 288x384"),
        (
            {"keypoint_names": tuple("abcdefghijklmnopq")},
            r"one.onnx has 17 keypoints \(nose, …\) and other.onnx has 17",
        ),
    ],
)
def test_files_that_do_different_work_are_refused(
    change: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = read_contract(shipped_model("onnx"))
    known = {"one.onnx": contract, "other.onnx": contract.replace(**change)}
    monkeypatch.setattr(benchmark_module, "read_contract", lambda path: known[path.name])
    with pytest.raises(InputError, match=text):
        benchmark_files([Path("one.onnx"), Path("other.onnx")])


def test_calls_take_turns() -> None:
    seen: list[tuple[str, int]] = []
    calls = {name: lambda step, name=name: seen.append((name, step)) for name in "abc"}
    result = measure_calls(calls, rounds=2, warmup=1)
    assert [name for name, _ in seen] == list("abcbcacab")
    assert [step for _, step in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {value.rounds for value in result.values()} == {2}
    with pytest.raises(InputError, match="at least one round and no negative warm-up, got 0 and 3"):
        measure_calls(calls, rounds=0)


class TestVerdict:
    def test_the_fastest_file_is_shipped_and_int8_pays(self) -> None:
        sentences = benchmark_verdict(benchmark(timing("a-fp32.onnx", 30), timing("a-int8.onnx", 10)))
        assert sentences[0] == (
            "Ship a-int8.onnx on this machine: 2.67 times as fast as a-fp32.onnx, from picture to poses."
        )
        assert sentences[1] == (
            "INT8 pays in onnx: the network of a-int8.onnx is 3.00 times as fast as that of a-fp32.onnx, at 29% of its "
            "size."
        )
        assert sentences[2].startswith(
            "Its network does 138 GOP/s, 34% of the 400 GOP/s of a large int8 matrix product"
        )
        assert "`probpose-edge report`" in sentences[-1]

    def test_of_equally_fast_files_the_smaller_is_shipped(self) -> None:
        sentences = benchmark_verdict(benchmark(timing("a-int8.onnx", 10.2), timing("a-fp16.tflite", 10)))
        assert sentences[0] == "Ship a-int8.onnx on this machine: as fast as a-fp16.tflite (within 5%), and smaller."

    def test_int8_that_does_not_pay_says_why(self) -> None:
        slow = OperatorProfile(int8_macs=300, float_macs=700, slow=("DequantizeLinear 40% of the time",))
        int8 = timing("a-int8.onnx", 31, operators=slow)
        sentences = benchmark_verdict(benchmark(timing("a-fp16.onnx", 33), timing("a-fp32.onnx", 30), int8))
        assert sentences[0].startswith("Ship a-int8.onnx") or sentences[0].startswith("Ship a-fp32.onnx")
        assert sentences[1] == (
            "INT8 does not pay in onnx here: the network of a-fp32.onnx takes 30.0 ms, that of a-int8.onnx 31.0 ms, at "
            "29% of the size. Why: only 30% of its multiply-adds are int8; DequantizeLinear 40% of the time."
        )

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"recipe": "int8-weights"}, "Its weights alone are small, the arithmetic is float"),
            ({"recipe": "palette6"}, "Its weights alone are small, the arithmetic is float"),
            ({"operators": None}, "Its runtime does not tell why"),
            ({"operators": OperatorProfile(int8_macs=9, float_macs=0, slow=())}, "its int8 kernels are slow"),
        ],
    )
    def test_other_reasons(self, changes: dict[str, Any], text: str) -> None:
        sentences = benchmark_verdict(benchmark(timing("a-fp32.onnx", 20), timing("a-int8.onnx", 40, **changes)))
        assert text in sentences[1]
        assert sentences[0].startswith("Ship a-fp32.onnx")

    def test_formats_are_compared_within_themselves(self) -> None:
        sentences = benchmark_verdict(benchmark(timing("a-fp32.onnx", 20), timing("a-int8.tflite", 10)))
        assert not any("INT8" in sentence for sentence in sentences)

    def test_models_are_compared_within_themselves(self) -> None:
        small = {"model": "probpose-s", "output_kind": "decoded"}
        files = timing("a-fp32.onnx", 20), timing("a-int8.onnx", 10), timing("b-fp32.onnx", 90, **small)
        sentences = benchmark_verdict(benchmark(*files, timing("b-int8.onnx", 30, **small)))
        assert sentences[1].startswith("INT8 pays in onnx (probpose-m): the network of a-int8.onnx is 2.00 times")
        assert sentences[2].startswith("INT8 pays in onnx (decoded, probpose-s): the network of b-int8.onnx is 3.00")

    def test_a_busy_machine_is_named(self) -> None:
        busy = Latency(median_ms=10, lower_quartile_ms=8, upper_quartile_ms=14, rounds=10)
        sentences = benchmark_verdict(benchmark(timing("a-fp32.onnx", 30), timing("a-int8.onnx", 9, person=busy)))
        assert sentences[-2].startswith("The times of a-int8.onnx spread by more than 30%: something else kept the")
        calm = benchmark_verdict(benchmark(timing("a-fp32.onnx", 30), timing("a-int8.onnx", 9)))
        assert not any("spread" in sentence for sentence in calm)

    def test_one_file_has_nothing_to_be_compared_with(self) -> None:
        assert benchmark_verdict(benchmark(timing("a-int8.onnx", 10)))[0].startswith("One file alone has nothing")

    def test_without_a_measured_peak_no_share_is_named(self) -> None:
        files = timing("a-fp32.onnx", 30), timing("a-int8.onnx", 10)
        assert not any("GOP/s" in sentence for sentence in benchmark_verdict(benchmark(*files, peak=None)))


def test_padded_multiply_adds_do_not_count() -> None:
    padded = timing("a-fp32.onnx", 10, operators=OperatorProfile(int8_macs=0, float_macs=707 * 10**6, slow=()))
    plain = timing("a-int8.onnx", 10)
    result = benchmark(padded, plain, timing("b-fp32.onnx", 10, model="probpose-s", operators=None))
    assert result.gops(padded) == result.gops(plain) == pytest.approx(2 * 0.689 * 100)
    assert result.gops(result.files[2]) is None


def test_work_of_the_shipped_files() -> None:
    onnx = profile_operators(shipped_model("onnx"), (192, 256), threads=1)
    assert onnx is not None
    assert onnx.macs == PROBPOSE_M_MACS
    assert onnx.int8_macs > 0.99 * onnx.macs
    pytest.importorskip("ai_edge_litert", reason="needs the extra tflite")
    tflite = profile_operators(shipped_model("tflite"), (192, 256), threads=1)
    assert tflite is not None
    assert (tflite.int8_macs, tflite.float_macs) == (onnx.int8_macs, onnx.float_macs)
    assert tflite.slow == ("1 RESHAPE outside the delegate", "1 CAST outside the delegate")


def test_footprint_of_a_file_and_of_what_is_none(tmp_path: Path) -> None:
    footprint = measure_footprint(shipped_model("onnx"), threads=1, batch=1)
    assert 0 < footprint.load_ms < 60_000
    if sys.platform == "linux":
        assert footprint.peak_mb is not None
        assert footprint.model_mb is not None
        # The file's weights at least, and no more than a small process.
        assert 4 < footprint.model_mb < footprint.peak_mb < 1000
    with pytest.raises(
        ModelFileError, match=r"A process of its own must load and run .*ended with: .*There is no model"
    ):
        measure_footprint(tmp_path / "gone.onnx", threads=1, batch=1)


def test_the_peak_is_that_of_true_products() -> None:
    peak = measure_arithmetic_peak(threads=1, seconds=0.01, size=64)
    assert peak.int8_gops > 0
    assert peak.fp32_gops > 0
    rng = np.random.default_rng(0)
    left = rng.integers(0, 100, (32, 32)).astype(np.uint8)
    right = rng.integers(0, 100, (32, 32)).astype(np.int8)
    (got,) = _product(2, 3, 6, "MatMulInteger", 1, 32)()
    np.testing.assert_array_equal(got, left.astype(np.int32) @ right.astype(np.int32))


class TestEnergy:
    def counter(self, folder: Path, microjoules: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")

    def test_counters_of_all_packages_are_added_also_past_their_range(self, tmp_path: Path) -> None:
        packages = [tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:1"]
        for folder, start in zip(packages, (1_000_000, 9_500_000), strict=True):
            self.counter(folder, start)
        # A part of a package, which is counted in the package already.
        self.counter(tmp_path / "intel-rapl:0:0", 5)
        meter = find_energy_meter(tmp_path, tmp_path / "none")
        assert meter.source == "2 processor package(s), whole package, by powercap"
        assert meter.measure is not None

        def work() -> None:
            self.counter(packages[0], 3_000_000)
            self.counter(packages[1], 500_000)

        assert meter.measure(work) == pytest.approx(2 + 1)

    def test_a_battery_that_is_being_emptied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        battery = tmp_path / "BAT0"
        battery.mkdir()
        (battery / "status").write_text("Discharging\n")
        (battery / "power_now").write_text("10000000\n")
        meter = find_energy_meter(tmp_path / "none", tmp_path)
        assert meter.source is not None
        assert meter.measure is not None
        times = iter((5.0, 7.0))
        monkeypatch.setattr("probpose_eval.benchmark.energy.time.perf_counter", lambda: next(times))
        assert meter.measure(lambda: (battery / "power_now").write_text("20000000\n")) == pytest.approx(30)
        (battery / "status").write_text("Charging\n")
        assert find_energy_meter(tmp_path / "none", tmp_path).measure is None

    def test_a_machine_that_does_not_tell(self, tmp_path: Path) -> None:
        meter = find_energy_meter(tmp_path, tmp_path)
        assert (meter.source, meter.measure) == (None, None)
        assert meter.why == "this machine has no energy counter (powercap) and no battery in use"

    def test_energy_per_crop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []

        def measure(work: Any) -> float:
            work()
            return 6.0

        meter = dataclasses.replace(find_energy_meter(Path("none"), Path("none")), measure=measure)
        monkeypatch.setattr(benchmark_module, "_ENERGY_SECONDS", 0.0)
        monkeypatch.setattr(benchmark_module.time, "perf_counter", iter([0.0, -1.0, 1.0] * 9).__next__)
        assert benchmark_module._joules(meter, calls.append, batch=2) == pytest.approx(3)
        assert calls == [0, 0, 0]
