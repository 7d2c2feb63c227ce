# SPDX-License-Identifier: BSD-2-Clause
"""Fault-injection campaigns: plan, run, judge, report. The command line is fi.py."""
