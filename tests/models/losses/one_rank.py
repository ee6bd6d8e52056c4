"""One of two gloo processes: a linear network under DDP on its share of a batch.

Called as ``python one_rank.py RANK FOLDER``. Reads ``batch.pt``, writes ``rank<RANK>.pt`` with the loss and
the averaged gradient of every coupling loss and every cut of the batch between the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from models.losses import build_loss


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    batch = torch.load(folder / "batch.pt", weights_only=True)
    results = {}
    for key, (name, options) in batch["losses"].items():
        for cut in batch["cuts"]:
            mine = slice(cut) if rank == 0 else slice(cut, None)
            network = torch.nn.Linear(5, 3, dtype=torch.float64)
            network.load_state_dict(batch["network"])
            parallel = DistributedDataParallel(network)
            loss = build_loss(name, 3, [9, 6, 3], **options)
            value = loss(parallel(batch["x"][mine]), batch["y"][mine])
            value.backward()
            with torch.no_grad():  # in evaluation one rank may work alone
                alone = loss.eval()(network(batch["x"]), batch["y"]) if rank == 0 else value
            results[key, cut] = value.detach(), network.weight.grad, alone.detach()
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
