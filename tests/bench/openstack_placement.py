"""OpenStack Placement in process, on SQLite: times a decision with its claim, and prints the milliseconds as JSON.

Runs in a virtual environment of its own, which `tests.bench.placement --baseline` makes; nothing of the project is
imported here.
"""

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import webob
from oslo_config import cfg
from placement import conf, db_api, deploy
from sqlalchemy import text

VERSION = "placement 1.36"
RESOURCES = {"VCPU": 2, "MEMORY_MB": 4096, "DISK_GB": 10}


def main(directory: Path, hosts: int, claims: int) -> None:
    """Prints what each of `claims` claims took."""
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config.set_override("connection", f"sqlite:///{directory / 'placement.db'}", group="placement_database")
    config.set_override("sync_on_startup", True, group="placement_database")
    config.set_override("auth_strategy", "noauth2", group="api")
    config([], default_config_files=[], default_config_dirs=[])
    app = deploy.loadapp(config)
    fill(hosts)
    claim(app)  # warms every cache
    samples = []
    for _ in range(claims):
        begin = time.perf_counter()
        claim(app)
        samples.append((time.perf_counter() - begin) * 1000)
    print(json.dumps(samples))


def fill(hosts: int) -> None:
    """The hosts, as Nova's compute nodes are: one provider each, written past the API, which takes too long."""
    with db_api.get_placement_engine().begin() as connection:
        classes = dict(connection.execute(text("SELECT name, id FROM resource_classes")).all())
        providers = [{"id": n, "uuid": str(uuid.uuid4()), "name": f"host-{n:05}"} for n in range(1, hosts + 1)]
        connection.execute(
            text(
                "INSERT INTO resource_providers (id, uuid, name, generation, root_provider_id)"
                " VALUES (:id, :uuid, :name, 0, :id)"
            ),
            providers,
        )
        totals = {"VCPU": (64, 4.0), "MEMORY_MB": (262_144, 1.0), "DISK_GB": (2000, 1.0)}
        rows = [
            {"provider": provider["id"], "class": classes[name], "total": total, "ratio": ratio}
            for provider in providers
            for name, (total, ratio) in totals.items()
        ]
        connection.execute(
            text(
                "INSERT INTO inventories (resource_provider_id, resource_class_id, total, reserved, min_unit, max_unit,"
                " step_size, allocation_ratio) VALUES (:provider, :class, :total, 0, 1, :total, 1, :ratio)"
            ),
            rows,
        )


def claim(app: Any) -> None:
    """What Nova does: candidates, then the allocation of the first."""
    wanted = ",".join(f"{name}:{amount}" for name, amount in RESOURCES.items())
    candidates = ask(app, "GET", f"/allocation_candidates?resources={wanted}&limit=1")
    allocation = candidates["allocation_requests"][0]
    body = {**allocation, "project_id": "p", "user_id": "u", "consumer_generation": None}
    ask(app, "PUT", f"/allocations/{uuid.uuid4()}", body)


def ask(app: Any, method: str, path: str, body: Any = None) -> Any:
    """One call through the whole WSGI application."""
    request = webob.Request.blank(path, method=method)
    request.headers["x-auth-token"] = "admin"
    request.headers["openstack-api-version"] = VERSION
    request.accept = "application/json"
    if body is not None:
        request.content_type = "application/json"
        request.body = json.dumps(body).encode()
    response = request.get_response(app)
    if response.status_int >= 300:
        raise RuntimeError(f"{method} {path}: {response.status} {response.text}")
    return response.json if response.body else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
