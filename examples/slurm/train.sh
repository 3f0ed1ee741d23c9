#!/bin/bash
# A trainer that follows a run while the workers of simulate.sh generate it; it goes on where it was stopped.
#
#     sbatch train.sh RUN MODEL --model glassnet
#
#SBATCH --job-name=glassmd-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# With a GPU, which torch finds by itself:
##SBATCH --gpus-per-node=1
set -u
run=${1:?"sbatch train.sh RUN MODEL [OPTION...]"}
model=${2:?"sbatch train.sh RUN MODEL [OPTION...]"}
shift 2

told=
stop() { told=yes; kill -TERM "$work" 2>/dev/null; }
trap stop TERM
glassmd train --stream "$run" --out "$model" "$@" --json &
work=$!
while wait "$work"; code=$?; [ -n "$told" ]; do told=; done # a signal ends the wait, and not yet the work
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
