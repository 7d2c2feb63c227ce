# SPDX-License-Identifier: BSD-2-Clause
"""What is made of a finished run folder: an HTML page and files for other programs. Everything here reads
run.json, trials.jsonl, trace.bin and kernel.log and changes none of them."""
