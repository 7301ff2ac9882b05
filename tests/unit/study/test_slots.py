import math

import pytest

from pipeline.config import ConfigError, Study, Train
from study.workers import slots as places
from study.workers.slots import cpu_quota, slots, usable_cores


@pytest.mark.parametrize(("section", "expected"), [({"workers": 3}, 3), ({}, None)])
def test_without_a_gpu_slots_are_cores_or_as_many_as_asked_for(section, expected):
    found = slots(Study(**section), Train(device="cpu", threads=1))
    assert [slot.name for slot in found] == [f"cpu {index}" for index in range(expected or usable_cores())]
    assert {(slot.device, slot.gpu) for slot in found} == {("cpu", "")}


def test_workers_of_many_threads_are_fewer_but_never_none():
    assert len(slots(Study(), Train(device="cpu", threads=10_000))) == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"per_gpu": 1}, ["cuda 0 (a)", "cuda 1 (a)"]),
        ({}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)", "cuda 1 (b)"]),
        ({"workers": 3}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)"]),
        ({"per_gpu": 2}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)", "cuda 1 (b)"]),
        ({"workers": 1}, ["cuda 0 (a)"]),
        ({"workers": 3, "per_gpu": 2}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)"]),
    ],
)
def test_workers_are_spread_over_the_gpus(section, expected):
    found = places.on_gpus(Study(**section), ["4", "GPU-7"], {"4": "H200"})
    assert [slot.name for slot in found] == expected
    assert [slot.gpu for slot in found] == [{"0": "4", "1": "GPU-7"}[slot.name.split()[1]] for slot in found]
    assert (found[0].device_name, found[-1].device) == ("H200", "cuda")


def test_more_workers_than_the_gpus_may_have_are_refused():
    with pytest.raises(ConfigError, match=r"study\.workers: must be at most study\.per_gpu times the GPUs, 2 x 1, got 3"):
        places.on_gpus(Study(workers=3, per_gpu=2), ["0"], {})


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", math.inf),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, "0::/a/b\n", 1),
        ({"cpu.max": "200000 100000"}, "0::/docker/of/the/host\n", 2),
        ({"cpu,cpuacct/x/cpu.cfs_quota_us": "50000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x\n", 0.5),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu:/x\n3:memory:/\n", math.inf),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/host\n", 3),
        ({}, None, math.inf),
    ],
)
def test_the_quota_of_cgroups_old_and_new_is_read(tmp_path, files, own, cores):
    for name, content in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(content)
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert cpu_quota(tmp_path / "mounted", tmp_path / "own") == cores
