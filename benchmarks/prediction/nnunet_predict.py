"""nnU-Net's own 2d prediction of one scan: run by the Python of its environment, with its folders as variables.

python nnunet_predict.py SCAN OUT CHANNELS      # OUT without .nii.gz
"""

import json
import os
import sys
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main():
    scan, out, channels = sys.argv[1], sys.argv[2], int(sys.argv[3])
    folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset001_Scans"
    plans = PlansManager(json.loads((folder / "nnUNetPlans.json").read_text()))
    description = json.loads((folder / "dataset.json").read_text())
    torch.manual_seed(0)
    outputs = len(description["labels"])
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, channels, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(channels, outputs, 3, padding=1)
    )
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    configuration = plans.get_configuration("2d")
    predictor.manual_initialization(
        network, plans, configuration, [network.state_dict()], description, "nnUNetTrainer", None
    )
    predictor.predict_from_files([[scan]], [out], num_processes_preprocessing=1, num_processes_segmentation_export=1)


if __name__ == "__main__":
    main()
