"""What the machine's own files say of free memory: control groups of both versions, nested, with page cache."""

import psutil
import pytest
import torch

from pts.policies.transformers.memory import available_bytes

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write the files of a system below a folder of its own; numbers in GiB where they are bytes."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))

    def write(files, free=100):
        kilobytes = {"MemTotal": 256 * GIB >> 10, "MemFree": 0, "MemAvailable": free * GIB >> 10}
        kilobytes |= dict.fromkeys(("Buffers", "Cached", "Active", "Inactive", "Shmem"), 0)
        meminfo = "".join(f"{name}: {number} kB\n" for name, number in kilobytes.items())
        for name, text in {"proc/meminfo": meminfo, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return available_bytes(CPU, tmp_path) / GIB

    return write


def version_2(folder, limit, used, inactive):
    base = f"sys/fs/cgroup{folder}"
    return {
        f"{base}/memory.max": f"{limit if limit == 'max' else limit * GIB}\n",
        f"{base}/memory.current": f"{used * GIB}\n",
        f"{base}/memory.stat": f"anon 77\ninactive_file {inactive * GIB}\nactive_file 5\n",
    }


def version_1(folder, limit, used, inactive):
    base = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{base}/memory.limit_in_bytes": f"{limit * GIB}\n",
        f"{base}/memory.usage_in_bytes": f"{used * GIB}\n",
        f"{base}/memory.stat": f"inactive_file 3\ntotal_inactive_file {inactive * GIB}\n",
    }


def test_the_machine_alone(machine):
    assert machine({}) == 100


def test_the_page_cache_of_version_2_is_not_in_use(machine):
    files = version_2("", 16, 15, 9) | {"proc/self/cgroup": "0::/\n"}
    assert machine(files) == 16 - (15 - 9)


def test_a_limit_is_read_where_the_process_names_no_group(machine):
    assert machine(version_2("", 16, 4, 0)) == 12


def test_no_limit_leaves_what_the_machine_has(machine):
    assert machine(version_2("", "max", 15, 9) | {"proc/self/cgroup": "0::/\n"}) == 100


def test_every_group_above_counts(machine):
    files = version_2("/a/b", 50, 10, 4) | version_2("/a", 20, 12, 2) | version_2("", "max", 90, 1)
    files["proc/self/cgroup"] = "0::/a/b\n"
    assert machine(files) == 10
    assert machine(version_2("/a/b", 14, 10, 4) | version_2("/a", 40, 12, 2)) == 8


def test_the_machine_may_have_less_than_the_group_allows(machine):
    assert machine(version_2("", 64, 1, 0), free=7) == 7


def test_version_1_beside_an_empty_version_2(machine):
    files = version_1("/jobs/7", 8, 7, 5) | version_1("/jobs", 30, 9, 1)
    files["proc/self/cgroup"] = "9:name=systemd:/\n4:cpu,memory:/jobs/7\n0::/\n"
    assert machine(files) == 6


def test_a_path_of_the_host_that_is_not_seen_inside_a_container(machine):
    files = version_1("", 8, 6, 4) | {"proc/self/cgroup": "4:memory:/docker/0123\n0::/docker/0123\n"}
    assert machine(files) == 6


def test_version_1_without_a_limit_says_a_number_beyond_all_memory(machine):
    files = version_1("", 1, 3, 0) | {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "proc/self/cgroup": "4:memory:/\n",
    }
    assert machine(files) == 100


def test_a_group_beyond_its_limit_leaves_nothing_and_not_less(machine):
    assert machine(version_2("", 2, 3, 0)) == 0
