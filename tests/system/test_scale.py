# SPDX-License-Identifier: BSD-2-Clause
"""1,024 supervised services in 256 MiB: all serve, kills among them all come back with their state, nothing leaks, and
one more service costs less than 64 KiB beyond its own image. The recovery times are `make scale`'s to judge: here only
what does not depend on the host."""
import argparse

from conftest import BUILD

from bench import scale

KILLS = 20


def options():
    return argparse.Namespace(kills=KILLS, seed=1, mem="256M", qemu_extra="")


def test_a_thousand_services(tmp_path):
    few = scale.measure(tmp_path / "few", BUILD, scale.FEW, options(), counted=False)
    many = scale.measure(tmp_path / "many", BUILD, 1024, options(), counted=False)
    assert few["problems"] + many["problems"] == []
    assert (few["alive"], many["alive"]) == (8, 1024)
    assert len(many["recoveries"]) == KILLS
    assert many["died"] == 1, "recovery falls and goes on: nobody dies with it"
    assert scale.service_kib(few, many, BUILD) < scale.LIMIT_KIB
