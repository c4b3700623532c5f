"""W&B's agent without its server: the agent's own loop, command line, environment and processes.

    python agent.py <sweep.yaml> <folder with a JSON file per run> <device of an agent> ...

What the server would answer comes from files: ``<run id>.json`` holds the values that it would have chosen. It is a
double of the server's side of a sweep, so it shows what a run is started with, not how a server shows the run.
"""

import json
import os
import sys
from pathlib import Path

import wandb
import wandb.apis.public.sweeps
from wandb.wandb_agent import Agent, run_agent


def main(sweep: Path, queue: Path) -> None:
    """Do the runs of the queue that no other agent has taken."""
    program = wandb.sdk.launch.sweeps.utils.load_sweep_config(str(sweep))["program"]

    def next_commands(_api, _agent, _metrics, at_work):
        if at_work:
            return []
        for file in sorted(queue.glob("*.json")):
            taken = file.with_suffix(f".taken-by-{os.environ['CUDA_VISIBLE_DEVICES']}")
            try:
                file.rename(taken)
            except FileNotFoundError:  # another agent was faster
                continue
            args = {name: {"value": value} for name, value in json.loads(taken.read_text()).items()}
            return [{"type": "run", "run_id": file.stem, "program": program, "args": args}]
        return [{"type": "exit"}]

    Agent.POLL_INTERVAL = 0.1  # seconds
    server = wandb.apis.public.sweeps
    server._sweep_with_runs = lambda *_: {"config": sweep.read_text()}
    server._register_agent = lambda *_, **__: {"id": "agent"}
    server._agent_heartbeat = next_commands
    wandb.Api = object
    run_agent("someone/refine/sweep0")


def fork(device: str) -> int:
    """An agent in a process of its own, which need not import W&B again; gives its id."""
    if agent := os.fork():
        return agent
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(0)


if __name__ == "__main__":
    agents = [fork(device) for device in sys.argv[3:]]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(agent, 0)[1]) != 0 for agent in agents))
