"""image.py NAME:TAG OUT.tar ENTRYPOINT FILE...: a container image of one layer as an OCI layout tar, without a registry.

ENTRYPOINT is a JSON list. FILE is SOURCE:/path/in/image, or ->TARGET:/path/in/image for a symbolic link. Times, owners
and order are fixed, so that equal files give an equal digest.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def layer(files):
    """The file system: every folder before what is in it, all for everyone to read and run."""
    made = set()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file in files:
            source, path = file.split(":", 1)
            path = path.lstrip("/")
            folders = path.split("/")[:-1]
            for depth in range(1, len(folders) + 1):
                folder = "/".join(folders[:depth])
                if folder not in made:
                    made.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755
            if source.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, source[2:]
                tar.addfile(entry)
            else:
                with open(source, "rb") as content:
                    data = content.read()
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type, data):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def main(name, out, entrypoint, *files):
    platform_ = {"architecture": ARCHITECTURE, "os": "linux"}
    system = layer(files)
    config = json.dumps({
        **platform_,
        "config": {"Entrypoint": json.loads(entrypoint), "Env": ["PATH=/bin"]},
        # The layer is not compressed, so its digest is its diff id too.
        "rootfs": {"type": "layers", "diff_ids": [digest(system)]},
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, system)],
    }).encode()
    index = json.dumps({
        "schemaVersion": 2,
        "manifests": [{
            **descriptor(MANIFEST, manifest),
            "platform": platform_,
            "annotations": {
                # containerd takes the whole name from its own annotation and would take the tag from the other.
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1],
            },
        }],
    }).encode()
    blobs = {"blobs/sha256/" + digest(b).split(":")[1]: b for b in (system, config, manifest)}
    with tarfile.open(out, "w") as tar:
        for path, data in {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
