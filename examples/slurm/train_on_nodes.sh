#!/bin/bash
# One model on several nodes: torchrun starts a process per GPU (or per node without GPUs), which share out the samples.
# Every node has to see the run and the model directory. Another number of nodes may go on where these were stopped.
#
#     sbatch --nodes=4 --gpus-per-node=4 train_on_nodes.sh RUN MODEL --model glassnet
#
#SBATCH --job-name=glassmd-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u
run=${1:?"sbatch train_on_nodes.sh RUN MODEL [OPTION...]"}
model=${2:?"sbatch train_on_nodes.sh RUN MODEL [OPTION...]"}
shift 2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

told= stopped=
stop() { told=yes stopped=yes; kill -TERM "$work" 2>/dev/null; }
trap stop TERM
srun --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:$port" \
  -m glassmd_cli train --stream "$run" --out "$model" "$@" --json &
work=$!
while wait "$work"; code=$?; [ -n "$told" ]; do told=; done # a signal ends the wait, and not yet the work
# torchrun does not hand on the exit code of its processes: who was told to stop is queued again
if [ "$code" -ne 0 ] && [ -n "$stopped" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
