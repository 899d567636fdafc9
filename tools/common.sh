# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# What the scripts beside this file share; they source it.

TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"

# Stop with a usage line unless there are at least COUNT arguments.
# Usage: require COUNT USAGE [ARGUMENT ...]
require() {
    local count="$1" usage="$2"
    shift 2
    if (($# < count)); then
        echo "usage: $(basename "$0") $usage" >&2
        exit 2
    fi
}

# Run a tool in several processes under torchrun.
# Usage: run_distributed TOOL PROCESSES [ARGUMENT ...]
# PROCESSES is the number of GPUs of this machine to use; without a GPU, the
# number of CPU processes. Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT.
run_distributed() {
    local tool="$1" processes="$2"
    shift 2
    if ! [[ "$processes" =~ ^[1-9][0-9]*$ ]]; then
        echo "$(basename "$0"): GPUS must be a whole number > 0," \
            "got '$processes'" >&2
        exit 2
    fi
    if [[ -z "${OMP_NUM_THREADS:-}" ]] && ! has_gpu; then
        OMP_NUM_THREADS="$(threads_per_process "$processes")"
        export OMP_NUM_THREADS
    fi
    exec python -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --nproc_per_node="$processes" \
        --master_port="${PORT:-29500}" \
        "$TOOLS/$tool" "$@" --launcher pytorch
}

has_gpu() {
    python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'
}

# Split the cores between the processes, at least one for each.
threads_per_process() {
    local threads=$(($(nproc) / $1))
    echo $((threads > 1 ? threads : 1))
}

# Run a tool on a Slurm cluster, one process for each GPU. srun starts them
# itself, so there is no torchrun.
# Usage: run_on_slurm PARTITION JOB_NAME TOOL [ARGUMENT ...]
# Environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
run_on_slurm() {
    local partition="$1" job_name="$2" tool="$3"
    shift 3
    # SRUN_ARGS holds several words on purpose.
    # shellcheck disable=SC2086
    exec srun -p "$partition" \
        --job-name="$job_name" \
        --gres="gpu:${GPUS_PER_NODE:-8}" \
        --ntasks="${GPUS:-8}" \
        --ntasks-per-node="${GPUS_PER_NODE:-8}" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        python -u "$TOOLS/$tool" "$@" --launcher slurm
}
