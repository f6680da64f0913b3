"""A session of NVIDIA's client of the Open Inference Protocol, whose code shares nothing with ours: a process of its own,
because two sets of generated code of one protocol do not go into one. Reads a JSON object, writes one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3] / "build" / "clients" / "python"))

import numpy as np
import tritonclient.grpc as triton  # what scripts/setup.sh --clients installs

TYPES = {"FP64": np.float64, "BOOL": np.bool_, "BYTES": np.object_}


def tensor(given: dict[str, Any]) -> triton.InferInput:
    """An input of what is one in JSON."""
    kind = TYPES[given["datatype"]]
    values = np.array([np.nan if one is None else one for one in np.ravel(given["data"])], dtype=kind)
    made = triton.InferInput(given["name"], given["shape"], given["datatype"])
    made.set_data_from_numpy(values.reshape(given["shape"]))
    return made


def main() -> None:
    """Ask each model, and for what there is not."""
    asked = json.load(sys.stdin)
    told: dict[str, Any] = {"metadata": {}, "outputs": {}, "errors": {}}
    headers = {"authorization": f"Bearer {asked['token']}"}
    with triton.InferenceServerClient(asked["address"]) as client:
        told["live"], told["ready"] = client.is_server_live(), client.is_server_ready()
        told["server"] = client.get_server_metadata(headers, as_json=True)
        for name, inputs in asked["models"].items():
            told["metadata"][name] = client.get_model_metadata(name, headers=headers, as_json=True)
            answer = client.infer(name, list(map(tensor, inputs)), headers=headers, request_id="7")
            told["outputs"][name] = {
                one.name: answer.as_numpy(one.name).astype(str if one.datatype == "BYTES" else float).tolist()
                for one in answer.get_response().outputs
            }
        for case, (name, version, inputs, token) in asked["errors"].items():
            shown = {} if token is None else {"authorization": f"Bearer {token}"}
            try:
                client.infer(name, list(map(tensor, inputs)), model_version=version, headers=shown)
                told["errors"][case] = "OK"
            except triton.InferenceServerException as error:
                told["errors"][case] = error.status()
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
