#!/usr/bin/env bash
# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Test with several GPUs, or with several CPU processes if there is no GPU.
set -euo pipefail
source "$(dirname "$0")/common.sh"

require 3 'CONFIG CHECKPOINT GPUS [ARGUMENT OF test.py ...]' "$@"
config="$1"
checkpoint="$2"
gpus="$3"
shift 3
run_distributed test.py "$gpus" "$config" "$checkpoint" "$@"
