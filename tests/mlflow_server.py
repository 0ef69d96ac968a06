"""A tracking server on this machine that can go away and come back."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

# A server of our own: MLflow's application, without the job runners of `mlflow server`.
SERVER = """
import os, sys
folder, port = sys.argv[1:]
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder}/mlflow.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = f"{folder}/mlruns"
os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
from werkzeug.serving import run_simple
from mlflow.server import app
run_simple("127.0.0.1", int(port), app, threaded=True)
"""


class Server:
    """A tracking server on this machine that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.address = f"http://ann:s3cret@127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.folder), str(self.port)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError("the MLflow server did not start within 60 s")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
