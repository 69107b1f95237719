"""`python3 -m cloud runpod|lambda …`: rent, list, scale and return workers."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cloud.lambda_labs import instances
from cloud.load import read_load
from cloud.provider import CloudWorker, Life, Provider
from cloud.rest import CloudError, Rest, read_key
from cloud.runpod import pods
from cloud.scaler import Scaler, drain_and_end

ROUND_SECONDS = 15.0
MAX_WORKERS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        return int(args.run(_provider(args), args))
    except CloudError as error:
        print(f"cloud: {error}", file=sys.stderr)
        return 1


def _provider(args: argparse.Namespace) -> Provider:
    """Return the provider; `RUNPOD_API_URL` and `LAMBDA_API_URL` override the API's URL."""
    if args.cloud == "runpod":
        address = os.environ.get("RUNPOD_API_URL", pods.ADDRESS)
        rest = Rest(address, read_key("RUNPOD_API_KEY"), pods.describe)
        return pods.RunPod(rest, body=args.body or pods.BODY)
    address = os.environ.get("LAMBDA_API_URL", instances.ADDRESS)
    rest = Rest(address, read_key("LAMBDA_API_KEY"), instances.describe)
    body = args.body or instances.BODY
    cloud_init = body.with_name(instances.CLOUD_INIT.name)
    return instances.Lambda(rest, body=body, cloud_init=cloud_init)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m cloud", description=__doc__)
    parser.add_argument("cloud", choices=("runpod", "lambda"))
    parser.add_argument("--body", type=Path, help="your copy of pod.json or instance.json")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="list our workers").set_defaults(run=_list)
    actions.add_parser("prices", help="list the present prices of GPUs").set_defaults(run=_prices)
    create = actions.add_parser("create", help="rent workers, which cost money from now on")
    create.add_argument("count", type=int, choices=range(1, MAX_WORKERS + 1), metavar="COUNT")
    create.set_defaults(run=_create)
    end = actions.add_parser("end", help="let workers finish their jobs, then return them")
    end.add_argument("ids", nargs="+", metavar="ID", help="ids as in `list`, or `all`")
    end.add_argument("--now", action="store_true", help="return them without waiting for jobs")
    end.set_defaults(run=_end)
    storage = actions.add_parser("storage", help="create storage for the weights, once")
    storage.add_argument("name")
    storage.add_argument("place", help="data center (RunPod) or region (Lambda)")
    storage.add_argument("--gigabytes", type=int, default=100, help="RunPod only")
    storage.set_defaults(run=_storage)
    scale = actions.add_parser("scale", help="rent and return workers by load, until stopped")
    scale.add_argument("--prometheus", required=True, metavar="URL")
    scale.add_argument("--min", type=int, default=2, dest="least")
    scale.add_argument("--max", type=int, default=10, dest="most")
    scale.add_argument("--once", action="store_true", help="run one round, then exit")
    scale.set_defaults(run=_scale)
    return parser


def _list(provider: Provider, args: argparse.Namespace) -> int:
    for worker in provider.list():
        cost = f"${worker.dollars_per_hour:.2f}/h"
        print(worker.id, worker.name, worker.state, worker.address or "-", cost, sep="\t")
    return 0


def _prices(provider: Provider, args: argparse.Namespace) -> int:
    for name, dollars in provider.prices():
        print(f"${dollars:.2f}/h", name, sep="\t")
    return 0


def _create(provider: Provider, args: argparse.Namespace) -> int:
    for _ in range(args.count):
        print(provider.create(), flush=True)
    return 0


def _end(provider: Provider, args: argparse.Namespace) -> int:
    ours = {worker.id: worker for worker in provider.list() if worker.life is not Life.GONE}
    ids = [*ours] if args.ids == ["all"] else args.ids
    if unknown := [given for given in ids if given not in ours]:
        raise CloudError(f"no worker of ours: {', '.join(unknown)}")
    for worker in map(ours.__getitem__, ids):
        _return_worker(provider, worker, is_drained=not args.now)
    return 0


def _return_worker(provider: Provider, worker: CloudWorker, *, is_drained: bool) -> None:
    if is_drained and worker.life is Life.ALIVE:
        drain_and_end(provider, worker)
    else:
        provider.end(worker)
    print(f"{worker.id} is returned", flush=True)


def _storage(provider: Provider, args: argparse.Namespace) -> int:
    print(provider.storage(args.name, args.place, args.gigabytes))
    return 0


def _scale(provider: Provider, args: argparse.Namespace) -> int:
    if not 1 <= args.least <= args.most <= MAX_WORKERS:
        raise CloudError(f"1 <= --min <= --max <= {MAX_WORKERS} must hold")
    scaler = Scaler(provider, partial(read_load, args.prometheus), args.least, args.most)
    if args.once:
        scaler.round()
        return 0
    must_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: must_stop.set())
    while not must_stop.is_set():
        try:
            scaler.round()
        except CloudError as error:
            logging.warning("%s", error)
        must_stop.wait(ROUND_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
