#!/usr/bin/env bash
# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Test on a Slurm cluster.
set -euo pipefail
source "$(dirname "$0")/common.sh"

require 4 'PARTITION JOB_NAME CONFIG CHECKPOINT [ARGUMENT OF test.py ...]' "$@"
partition="$1"
job_name="$2"
config="$3"
checkpoint="$4"
shift 4
run_on_slurm "$partition" "$job_name" test.py "$config" "$checkpoint" "$@"
