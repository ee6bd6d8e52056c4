"""A round to a real Orthanc: send, find under the study, fetch back.

Called as ``unshare -n python orthanc_round.py FOLDER FILE...``, since Debian's Orthanc listens on every
address whatever its settings say: in a network namespace of its own there is none but loopback. The first
file is an image of the study, the others are the report's. Writes what came back below FOLDER and prints what
was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from pipeline.reporting.dicom_objects import parse_destination, send

DICOM_PORT, HTTP_PORT = 4242, 8042
SETTINGS = {
    "Name": "TEST",
    "DicomAet": "ORTHANC",
    "DicomPort": DICOM_PORT,
    "HttpPort": HTTP_PORT,
    "RemoteAccessAllowed": False,
    "AuthenticationEnabled": False,
    "DicomAlwaysAllowStore": True,
}


def main(folder: Path, files: list[Path]) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(SETTINGS | {"StorageDirectory": str(folder / "db")}))
    log = (folder / "orthanc.log").open("wb")
    server = subprocess.Popen(["Orthanc", settings], stdout=log, stderr=log)
    try:
        _wait(server)
        image, *reports = files
        node = parse_destination(f"ORTHANC@127.0.0.1:{DICOM_PORT}")
        send([image], node)
        send(reports, node)
        json.dump({"studies": [_study(s, folder) for s in _get("/studies")]}, sys.stdout)
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def _study(identifier: str, folder: Path) -> dict:
    about = _get(f"/studies/{identifier}")
    series = [_get(f"/series/{s}") for s in about["Series"]]
    fetched = []
    for instance in (i for s in series for i in s["Instances"]):
        path = folder / f"{instance}.dcm"
        path.write_bytes(_bytes(f"/instances/{instance}/file"))
        fetched.append(str(path))
    return {
        "uid": about["MainDicomTags"]["StudyInstanceUID"],
        "series": [s["MainDicomTags"] for s in series],
        "fetched": fetched,
    }


def _wait(server: subprocess.Popen) -> None:
    for _ in range(1800):
        if server.poll() is not None:
            raise RuntimeError(f"Orthanc ended with {server.returncode}")
        try:
            _get("/system")
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("Orthanc did not answer within 180 s")


def _get(path: str) -> object:
    return json.loads(_bytes(path))


def _bytes(path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}{path}", timeout=120) as answer:
        return answer.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]])
