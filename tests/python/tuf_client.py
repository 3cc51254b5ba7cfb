"""Reads a repository of The Update Framework with python-tuf: `tuf_client.py ROOT METADATA_URL TARGETS_URL FOLDER PATH`. Prints what the target
has in `custom`, and downloads it into FOLDER."""

import json
import pathlib
import sys

from tuf.ngclient import Updater

root, metadata, targets, folder, path = sys.argv[1:]
for name in ("metadata", "files"):
    (pathlib.Path(folder) / name).mkdir(parents=True, exist_ok=True)
updater = Updater(
    metadata_dir=f"{folder}/metadata",
    metadata_base_url=metadata,
    target_base_url=targets,
    target_dir=f"{folder}/files",
    bootstrap=pathlib.Path(root).read_bytes(),
)
updater.refresh()
target = updater.get_targetinfo(path)
updater.download_target(target)
print(json.dumps(target.unrecognized_fields["custom"]))
