# SPDX-License-Identifier: Apache-2.0
"""The wires between J3DAI's blocks: which of them have not the same at both ends. There is nothing to simulate of them;
what the RTL shows of any is a mistake of the SoC."""

from __future__ import annotations

from collections.abc import Sequence

from nncosim.platforms.j3dai import J3dai

__all__ = ["WIRES", "wire_groups"]

WIRES = ("host and control registers", "DMPA and control registers", "entry port and its neighbours", "L2 and its port")
"""Groups of wires; those of each cluster follow."""


def wire_groups(platform: J3dai, path: str) -> list[str]:
    """A Verilog expression for each group of `WIRES` and each cluster: high where a wire differs between its ends.

    path: hierarchical name of the SoC. Lines of data, which the blocks' own boundaries show, are not among them.
    """
    host, control, dmpa, entry, port, l2 = (f"{path}.{name}" for name in ("host", "control", "dmpa", "entry", "l2_port",
                                                                         "l2"))  # fmt: skip
    of_host = [(f"{control}.{a}", f"{host}.mmio_{a}") for a in ("addr", "r_en", "r_data", "w_en", "w_data")]
    of_host += [(f"{host}.{name}", f"{control}.{name}") for name in ("irq", "in_frame")]
    of_dmpa = [(f"{dmpa}.{name}", f"{control}.{name}") for name in ("push", "push_addr", "in_frame")]
    of_dmpa += [(f"{control}.{name}", f"{dmpa}.{name.removeprefix('dmpa_')}")
                for name in ("dmpa_free", "dmpa_busy", "dmpa_trap", "lists_done")]  # fmt: skip
    of_entry = [(f"{control}.entry_frame", f"{entry}.frame"), (f"{entry}.input_free", f"{control}.input_free"),
                (f"{control}.entry_status", f"{entry}.status"), (f"{host}.run", f"{entry}.run"),
                (f"{entry}.host_ready", f"{host}.load_ready"), (f"{entry}.l2_busy", f"{port}.busy")]  # fmt: skip
    of_entry += [(f"{host}.load_{a}", f"{entry}.host_{a}") for a in ("valid", "imem", "addr", "data")]
    of_entry += [(f"{port}.entry_{a}", f"{entry}.l2_{a}") for a in ("valid", "addr")]
    of_l2 = [(f"{l2}.{a}", f"{port}.l2_{a}") for a in ("addr", "mask", "r_en", "w_en")]
    of_l2 += [(f"{port}.{a}", f"{dmpa}.l2_{b}")
              for a, b in (("addr", "addr"), ("mask", "mask"), ("r_en", "re"), ("w_en", "we"))]  # fmt: skip
    clusters = (_of_cluster(k, f"{path}.cluster{k}", control, dmpa) for k in range(platform.clusters))
    return [_apart(group) for group in (of_host, of_dmpa, of_entry, of_l2, *clusters)]


def _of_cluster(k: int, cluster: str, control: str, dmpa: str) -> Sequence[tuple[str, str]]:
    own = [(f"{cluster}.start", f"{control}.start"), (f"{cluster}.wr_valid", f"{dmpa}.wr_valid"),
           (f"{cluster}.rd_valid", f"{dmpa}.rd_valid"), (f"{control}.running", f"{cluster}.running"),
           (f"{control}.armed", f"{cluster}.armed"), (f"{control}.cluster_trap", f"{cluster}.trap"),
           (f"{dmpa}.drain_ahead", f"{cluster}.drain_ahead")]  # fmt: skip
    bits = [(_bit(a, cluster, k), _bit(b, cluster, k)) for a, b in own]
    bits += [(f"{cluster}.signal_in", f"8'({dmpa}.signal_in >> {8 * k})"),
             (f"8'({dmpa}.signal_out >> {8 * k})", f"{cluster}.signal_out")]  # fmt: skip
    shared = [(f"{cluster}.{name}", f"{dmpa}.{name}") for name in ("wr_space", "wr_addr", "wr_mask", "rd_addr")]
    shared += [(f"{cluster}.start_pc", f"{control}.start_pc"), (f"{cluster}.in_frame", f"{control}.in_frame"),
               (f"{cluster}.dmpa_idle", f"{dmpa}.idle")]  # fmt: skip
    return [*bits, *shared]


def _bit(end: str, cluster: str, k: int) -> str:
    """Of a wire that has one for each cluster, but at the cluster."""
    return f"1'({end} >> {0 if end.startswith(f'{cluster}.') else k})"


def _apart(pairs: Sequence[tuple[str, str]]) -> str:
    return "(" + " || ".join(f"{a} != {b}" for a, b in pairs) + ")"
