"""Run nnU-Net's own training for a fixed time, or its own prediction; called by beside_nnunet with nnU-Net's Python.

    python nnunet_train.py train CONFIGURATION FOLDER DEVICE UNTIL ITERATIONS    # UNTIL: seconds since 1970
    python nnunet_train.py predict CONFIGURATION FOLDER DEVICE IMAGES OUT

FOLDER is the data set's in nnUNet_preprocessed. Training writes trained.json next to the checkpoint.
"""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from statistics import median

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as original

CLOSING_S = 2.0
"""Seconds kept from the last iteration to the end of the process, to write the checkpoint."""


class nnUNetTrainer(original.nnUNetTrainer):
    """nnU-Net's trainer, but the decay of the learning rate ends when the time ends.

    It has the name of the original, because a checkpoint holds the name and prediction builds the network from it.
    There is no validation: with fold "all" it would use training cases, and nothing here depends on it.
    """

    until: float = float("inf")

    def run_training(self) -> None:
        self.on_train_start()
        ends, seconds = self.until - CLOSING_S, []
        self.iterations = 0
        while self.current_epoch < self.num_epochs and time.time() < ends:
            began = time.time()
            self.on_epoch_start()
            self.on_train_epoch_start()
            losses = []
            while len(losses) < self.num_iterations_per_epoch and (not losses or time.time() < ends):
                losses.append(self.train_step(next(self.dataloader_train)))
            self.on_train_epoch_end(losses)
            self.iterations += len(losses)
            self.current_epoch += 1
            seconds.append(time.time() - began)
            self.print_to_log_file(f"{seconds[-1]:.1f} s, loss {self.last_loss():.3f}")
            if len(seconds) > 1:  # the first one includes the warm-up
                left = (ends - time.time()) / median(seconds[1:])
                self.num_epochs = self.lr_scheduler.max_steps = self.current_epoch + max(0, round(left))
        if not self.iterations:
            raise RuntimeError("the time ended before the first iteration: give more seconds")
        self.num_epochs = self.current_epoch
        self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_final.pth"))

    def last_loss(self) -> float:
        return float(self.logger.get_value("train_losses", step=-1))


def train(configuration: str, folder: Path, device: torch.device, until: float, iterations: int) -> None:
    began = time.time()
    if device.type == "cuda":  # as nnUNetv2_train does
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    trainer = nnUNetTrainer(plans, configuration, "all", json.loads((folder / "dataset.json").read_text()), device)
    trainer.until, trainer.num_iterations_per_epoch = until, iterations
    trainer.run_training()
    peak_mb = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None
    said = {
        "epochs": trainer.num_epochs,
        "iterations": trainer.iterations,
        "batch": trainer.batch_size,
        "patch": list(trainer.configuration_manager.patch_size),
        "loss": trainer.last_loss(),
        "in_process_s": time.time() - began,
        "peak_mb": peak_mb,
    }
    (Path(trainer.output_folder) / "trained.json").write_text(json.dumps(said))
    for process in multiprocessing.active_children():  # otherwise they would wait for one another
        process.kill()
    sys.stdout.flush()
    os._exit(0)


def predict(configuration: str, folder: Path, device: torch.device, images: str, out: str) -> None:
    """As nnUNetv2_predict does by default: windows half a patch apart, mirrored along every axis."""
    model = Path(os.environ["nnUNet_results"]) / folder.name / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), ("all",))
    workers = min(default_num_processes, len(list(Path(images).iterdir())))
    predictor.predict_from_files(
        images, out, num_processes_preprocessing=workers, num_processes_segmentation_export=workers
    )


def main() -> None:
    task, configuration, folder, device, *rest = sys.argv[1:]
    where = configuration, Path(folder), torch.device(device)
    if task == "train":
        train(*where, float(rest[0]), int(rest[1]))
    else:
        predict(*where, *rest)


if __name__ == "__main__":
    main()
