"""Files that run code where they are unpickled, to see that nothing does."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def canary_files(canary):
    """{name: bytes} of twelve files that make the file `canary` where they are unpickled."""
    pickled = pickle.dumps(Canary(canary))
    legacy, modern, array, arrays, archived = (io.BytesIO() for _ in range(5))
    torch.save(Canary(canary), legacy, _use_new_zipfile_serialization=False)
    torch.save({"weights": Canary(canary)}, modern)
    np.save(array, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    np.savez(arrays, weights=np.array([Canary(canary)], dtype=object))
    with zipfile.ZipFile(archived, "w") as inner:
        inner.writestr("archive/data.pkl", pickled)
    header = json.dumps({"__metadata__": {"code": pickled.hex()}}).encode()
    files = {
        "m.pkl": pickled,
        "m.pth": legacy.getvalue(),
        "m.pt": modern.getvalue(),
        "m.npy": array.getvalue(),
        "m.npz": arrays.getvalue(),
        ".metadata": pickled,
        "m.safetensors": struct.pack("<Q", len(header)) + header,
        "renamed.safetensors": pickled,
        "renamed.json": pickled,
        "data.pkl.zip": archived.getvalue(),
        "polyglot.zip": pickled + archived.getvalue(),
        "tail.zip": archived.getvalue() + pickled,
    }
    pickle.loads(files["m.pkl"])  # noqa: S301 - to see that it would harm
    assert canary.exists(), "the canary sings"
    canary.unlink()
    return files
