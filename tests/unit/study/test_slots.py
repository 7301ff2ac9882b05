import math
from concurrent.futures import wait

import pytest

from pipeline.config import ConfigError, Study, Train
from study.executors import Slot
from study.executors import slots as places
from study.executors.slots import Growth, Load, cpu_quota, more_per_gpu, slots, usable_cores

GIB = 1 << 30


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
        ({}, ["cuda 0 (a)", "cuda 1 (a)"]),
        ({"per_gpu": 2}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)", "cuda 1 (b)"]),
        ({"workers": 3}, ["cuda 0 (a)", "cuda 1 (a)", "cuda 0 (b)"]),
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


@pytest.mark.parametrize(
    ("used", "total", "utilisation", "present", "more"),
    [
        (1 * GIB, 80 * GIB, 0.95, 1, 0),  # its time is used
        (1 * GIB, 80 * GIB, 0.90, 1, 0),
        (1 * GIB, 80 * GIB, 0.50, 1, 1),
        (1 * GIB, 80 * GIB, 0.10, 1, 1),  # twice as many at most
        (1 * GIB, 80 * GIB, 0.10, 2, 2),
        (1 * GIB, 80 * GIB, 0.00, 3, 3),
        (1 * GIB, 80 * GIB, 0.75, 4, 1),
        (1 * GIB, 80 * GIB, 0.10, 6, 2),  # eight at most
        (1 * GIB, 80 * GIB, 0.10, 8, 0),
        (30 * GIB, 80 * GIB, 0.10, 2, 0),  # three would take more than 90 % of the memory
        (24 * GIB, 80 * GIB, 0.10, 2, 1),
        (90 * GIB, 80 * GIB, 0.10, 1, 0),
        (0, 80 * GIB, 0.10, 1, 1),
    ],
)
def test_a_gpu_gets_workers_while_it_has_time_and_memory(used, total, utilisation, present, more):
    assert more_per_gpu(used, total, utilisation, present) == more


def test_growth_decides_after_three_readings_with_all_workers_busy():
    first, other = Slot("cuda 0 (a)", "cuda", "H200", "0"), Slot("cuda 1 (a)", "cuda", "H200", "1")
    loads = {"0": Load(2 * GIB, 80 * GIB, 0.3), "1": Load(2 * GIB, 80 * GIB, 0.95)}
    growth = Growth(lambda: loads, between=0)

    def read(present, busy):
        assert growth.more(present, busy) == []  # begins to read
        wait([growth._reading])
        return growth.more(present, busy)

    assert [read([first, other], [first, other]) for _ in range(2)] == [[], []]
    assert read([first, other], [other]) == []  # an idle worker says nothing of what one takes
    (new,) = read([first, other], [first, other])
    assert new == Slot("cuda 0 (b)", "cuda", "H200", "0")
    assert [read([first, other], [first, other]) for _ in range(4)] == [[]] * 4  # once for a number of workers
    growth.close()
