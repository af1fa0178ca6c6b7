"""nnU-Net's own 2d training loader, alone: run by the Python of its environment, with its folders as variables.

    python nnunet_loader.py SIZE BATCH      # nnUNet_n_proc_DA sets the number of processes

Prints the milliseconds per sample.
"""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

WARM, TIMED = 8, 24


def main():
    size, batch = (int(word) for word in sys.argv[1:])
    folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset001_Scans"
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"] |= {"patch_size": [size, size], "batch_size": batch}
    plans["continue_training"] = False
    description = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "2d", "all", description, device=torch.device("cpu"))
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    for _ in range(WARM):
        next(batches)
    began = time.perf_counter()
    for _ in range(TIMED):
        next(batches)
    print(f"ms {1000 * (time.perf_counter() - began) / (TIMED * batch):.3f}", flush=True)
    for process in multiprocessing.active_children():  # otherwise they would wait for one another
        process.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
