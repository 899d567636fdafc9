#!/usr/bin/env bash
# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Train on a Slurm cluster.
set -euo pipefail
source "$(dirname "$0")/common.sh"

require 4 'PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENT OF train.py ...]' "$@"
partition="$1"
job_name="$2"
config="$3"
work_dir="$4"
shift 4
run_on_slurm "$partition" "$job_name" \
    train.py "$config" --work-dir="$work_dir" "$@"
