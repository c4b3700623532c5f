#!/usr/bin/env bash
# refine predict over the nodes of a SLURM cluster; one process per GPU.
#
#   sbatch scripts/slurm_predict.sh input=photos masks=holes output=results preset=paper
#   sbatch --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 scripts/slurm_predict.sh input=... output=...
#   sbatch --array=0-15 scripts/slurm_predict.sh input=... output=... shards=16    # jobs of one GPU, which do not meet
#   sbatch --gpus-per-node=0 --ntasks-per-node=16 scripts/slurm_predict.sh input=... output=... trainer.accelerator=cpu
#
# What to know:
# - Output and input lie on a file system that all nodes see. Finished results are kept, so the job may be killed,
#   preempted, requeued or submitted again with other numbers of nodes and tasks: it continues.
# - --ntasks-per-node says how many processes share a node; Lightning needs it, --ntasks alone does not do.
# - GPUs are asked for per node, not per task: each process must see all GPUs of its node and takes its own.
# - Each process computes with threads=1 on the CPU. Another number changes the last bits of the results: choose one
#   for a whole set, and as many --cpus-per-task.
# - Two minutes before the time is up the job puts itself back into the queue (--signal, below) and goes on later.
#   The image in hand is given up, finished ones are kept. Preempted jobs that SLURM requeues do the same.
#   Whatever ends a process ends the step (--kill-on-bad-exit); the job then fails, and can be submitted again.
# - The last job of an array writes the tables; `refine predict ... shards=16 gather=true` does so at any time.
# - The exit status is that of `refine predict`: 0 only if every result is there.
#
#SBATCH --job-name=refine
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=refine-%j.log
set -uo pipefail

if [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "submit it: sbatch $0 input=... output=..." >&2
  exit 2
fi

requeue() {
  echo "time is nearly up: back into the queue"
  scancel --signal=TERM "$SLURM_JOB_ID" # the processes, which end at once and say what is left; srun would kill them
  wait "$step"
  scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
}
trap requeue USR1

# Where refine is not on the PATH: REFINE=/path/to/.venv/bin/refine sbatch ... (srun forgets --cpus-per-task since 22.05)
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "${REFINE:-refine}" predict trainer=slurm \
  ${SLURM_ARRAY_TASK_ID:+"shard=$SLURM_ARRAY_TASK_ID"} "$@" &
step=$!
wait "$step" # returns early at a signal, when the trap has run
status=$?
exit "$status"
