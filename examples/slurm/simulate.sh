#!/bin/bash
# Workers on one run, a task of the array each: they share nothing but the run directory, which every node has to see.
#
#     glassmd simulate run.toml --out RUN --walltime 300     # makes the run, and begins it
#     sbatch --array=1-40 simulate.sh RUN
#
#SBATCH --job-name=glassmd-simulate
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# With GPUs, HOOMD-blue from conda-forge and one worker per GPU:
##SBATCH --gpus-per-task=1
set -u
run=${1:?"sbatch simulate.sh RUN"}
export OMP_NUM_THREADS=1 # each worker is one process on one core

# Slurm tells this shell two minutes before the end, or before somebody else gets the node: workers commit what is
# finished and end with code 75, and what is left is queued again.
told=
stop() { told=yes; kill -TERM "$work" 2>/dev/null; }
trap stop TERM
workers=(--workers "${SLURM_CPUS_PER_TASK:-1}")
[ -n "${SLURM_GPUS_ON_NODE:-}" ] && workers=() # one for each GPU
glassmd simulate --out "$run" ${workers[@]+"${workers[@]}"} --json &
work=$!
while wait "$work"; code=$?; [ -n "$told" ]; do told=; done # a signal ends the wait, and not yet the work
if [ "$code" -eq 75 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
