#!/usr/bin/env bash
# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Train with several GPUs, or with several CPU processes if there is no GPU.
set -euo pipefail
source "$(dirname "$0")/common.sh"

require 2 'CONFIG GPUS [ARGUMENT OF train.py ...]' "$@"
config="$1"
gpus="$2"
shift 2
run_distributed train.py "$gpus" "$config" "$@"
