#!/usr/bin/env bash
#SBATCH --job-name=study
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --output=study-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#
# A study on all GPUs of all nodes of a Slurm job, from the checkout on a disk that all nodes share:
#
#   sbatch deploy/slurm.sh --space fusion_grid --storage "$PWD/trials"
#
# Slurm sends USR1 five minutes before the time limit: the study then stops in order, the job is
# requeued and continues. TERM stops the study too, and leaves the requeueing to Slurm.
# HEAD_IP is the first node's address (default: what its name resolves to); PYTHON and RAY are the
# programs (default: those of .venv).
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"

export PYTHON="${PYTHON:-$PWD/.venv/bin/python}"
ray="${RAY:-$PWD/.venv/bin/ray}"
# Not `| head -n 1`: a list that is still being written when head leaves would end this script.
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
head="${hosts%%$'\n'*}"
ip="${HEAD_IP:-$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }')}"
# A port of its own, because nodes may be shared with other jobs.
address="$ip:$((20000 + SLURM_JOB_ID % 20000))"

# Whoever reaches a Ray port can run code on its node. srun hands the token on in the environment,
# where other users cannot read it; it is never on a command line.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}"
export RAY_AUTH_TOKEN

nodes=() driver="" requeue=""

# Called by traps.
# shellcheck disable=SC2329
clean_up() {
    # Never `ray stop`: it would end the Ray of other jobs on these nodes.
    ((${#nodes[@]} == 0)) || kill -TERM "${nodes[@]}" 2>/dev/null || true
    nodes=()
    wait
    rm -rf "/tmp/ray-$SLURM_JOB_ID"
}
# shellcheck disable=SC2329
stop_study() {
    [ -n "$driver" ] || exit 130
    kill -TERM "$driver" 2>/dev/null || true
}
trap clean_up EXIT
trap 'requeue=yes; stop_study' USR1
trap stop_study TERM

cpus="${SLURM_CPUS_PER_TASK:-1}"
per_node=(--num-cpus="$cpus" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$head" \
    "$ray" start --block --head --node-ip-address="$ip" --port="${address##*:}" \
    --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${per_node[@]}" &
nodes+=($!)
until "$ray" status --address="$address" >/dev/null 2>&1; do
    kill -0 "${nodes[0]}" || { echo "the head on $head has ended" >&2; exit 1; }
    sleep 1
done
if ((SLURM_JOB_NUM_NODES > 1)); then
    # Nodes that join after the first trials are used as soon as they join.
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --cpus-per-task="$cpus" --exclude="$head" "$ray" start --block --address="$address" "${per_node[@]}" &
    nodes+=($!)
fi

deploy/study.sh "$@" --address="$address" &
driver=$!
code=0
wait "$driver" || code=$?
# A signal ends `wait` before the study has ended.
while kill -0 "$driver" 2>/dev/null; do
    code=0
    wait "$driver" || code=$?
done
if [ -n "$requeue" ] && ((code != 0 && code != 1)); then
    echo "stopped before it was done (exit code $code): requeued"
    clean_up
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
