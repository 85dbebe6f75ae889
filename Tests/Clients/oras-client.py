"""Pushes and pulls an artifact with the oras Python package.

oras-client.py push HOST:PORT/REPOSITORY:TAG FILE...    prints the manifest's digest
oras-client.py pull HOST:PORT/REPOSITORY:TAG FOLDER     prints the path of each file
"""

import sys

import oras.client


def main(action: str, target: str, *paths: str) -> None:
    client = oras.client.OrasClient(insecure=True)
    if action == "push":
        response = client.push(target, files=list(paths), disable_path_validation=True)
        print(response.headers["Docker-Content-Digest"])
    elif action == "pull":
        for path in client.pull(target, outdir=paths[0]):
            print(path)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
