"""A model hub of one's own: folders served over HTTP as the Hugging Face hub serves its repositories."""

import base64
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

from loopback import Handler, serving


@contextmanager
def serve(repositories, gated=(), uploads=None):
    """Serve {"owner/name": {"revision": folder}}; yields the address and the list of requested paths.

    A revision is known by its name or by its commit, the SHA-1 of its name. Files of `gated` repositories are refused.
    Repositories that somebody with a token makes have their folders in `uploads`.
    """
    asked = []

    class Hub(Handler):
        def do_GET(self):
            asked.append(self.path)
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self.answer("/".join(parts[2:4]), (parts[5:] or ["main"])[0], None, tree=parts[4:5] == ["tree"])
            elif parts[2:3] == ["resolve"]:
                self.answer("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self.refuse(404, "EntryNotFound")

        do_HEAD = do_GET

        def do_POST(self):
            """Take an upload in small files, into the folder of the revision main."""
            asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts == ["api", "repos", "create"]:
                said = json.loads(body)
                name = f"{said.get('organization', 'owner')}/{said['name']}"
                if name in gated or "Bearer" not in self.headers.get("Authorization", ""):
                    return self.refuse(403, "Forbidden")
                if name not in repositories:
                    repositories[name] = {"main": Path(uploads) / name}
                    repositories[name]["main"].mkdir(parents=True)
                return self.send(json.dumps({"url": f"{address_of(self)}/{name}", "id": name}).encode(), commit("main"))
            if parts == ["api", "validate-yaml"]:
                return self.send(b'{"errors": [], "warnings": []}', commit("main"))
            folder = repositories["/".join(parts[2:4])]["main"]
            if parts[4] == "preupload":
                files = [file | {"uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
                return self.send(json.dumps({"files": files}).encode(), commit("main"))
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    (folder / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"{address_of(self)}/{'/'.join(parts[2:4])}/commit/{commit('main')}"
            return self.send(json.dumps({"commitUrl": url, "commitOid": commit("main")}).encode(), commit("main"))

        def answer(self, name, revision, file, tree=False):
            revisions = repositories.get(name, {})
            revisions = revisions | {commit(key): folder for key, folder in revisions.items()}
            if name not in repositories:
                return self.refuse(401, "RepoNotFound")
            if revision not in revisions:
                return self.refuse(404, "RevisionNotFound")
            sha = revision if len(revision) == 40 else commit(revision)
            folder = revisions[revision]
            files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
            if file is None and tree:
                sizes = {path: (folder / path).stat().st_size for path in files}
                body = [{"type": "file", "path": path, "size": size, "oid": sha} for path, size in sizes.items()]
                return self.send(json.dumps(body).encode(), sha)
            if file is None:
                body = {"id": name, "sha": sha, "siblings": [{"rfilename": path} for path in files]}
                return self.send(json.dumps(body).encode(), sha)
            if name in gated:
                return self.refuse(403, "GatedRepo")
            if file not in files:
                return self.refuse(404, "EntryNotFound")
            return self.send((folder / file).read_bytes(), sha)

        def send(self, body, sha):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(f"blob {len(body)}".encode() + bytes(1) + body).hexdigest()}"')
            self.send_header("X-Repo-Commit", sha)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status, error):
            self.send_response(status)
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Hub) as address:
        yield address, asked


def visit(monkeypatch, address, cache):
    """Let this process take `address` for the hub, and `cache` for its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", address)


def address_of(handler):
    return f"http://127.0.0.1:{handler.server.server_port}"


def commit(revision):
    """What the hub made here calls a revision."""
    return hashlib.sha1(revision.encode()).hexdigest()


def cache_folder(cache: Path, repository: str) -> Path:
    """The folder that a repository has in the hub's cache, with one revision in it; made."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit("main"))
    snapshot = folder / "snapshots" / commit("main")
    snapshot.mkdir(parents=True)
    return snapshot
