"""Many endpoints: how do they end their connections? Politely, resumable, in constant memory.

    store = Store("run.db", write=True, create=True)
    store.begin({})
    store.add([Endpoint("example.org", 443)])
    store.loaded()
    await run(store, HereRunner(factory, limits), limits)

docs/how-to/fleet.md has the command line, the tables of the store and what the limits promise.
"""

from bowout.fleet._dask import DaskRunner
from bowout.fleet._errors import FleetError, StoreError
from bowout.fleet._export import export
from bowout.fleet._feed import Feed, FleetProgress, ResultWriter
from bowout.fleet._limits import Limits
from bowout.fleet._postgres import PostgresStore
from bowout.fleet._prober import Probe, ProbeFactory
from bowout.fleet._rows import stored_report
from bowout.fleet._run import FleetRunner, HereRunner, run
from bowout.fleet._store import Store
from bowout.fleet._stores import FleetStore, open_store
from bowout.fleet._targets import BadLine, Endpoint, Exclusions, parse_endpoint, read_endpoints, read_lines
from bowout.fleet._workers import WorkersRunner

__all__ = [
    "BadLine",
    "DaskRunner",
    "Endpoint",
    "Exclusions",
    "Feed",
    "FleetError",
    "FleetProgress",
    "FleetRunner",
    "FleetStore",
    "HereRunner",
    "Limits",
    "PostgresStore",
    "Probe",
    "ProbeFactory",
    "ResultWriter",
    "Store",
    "StoreError",
    "WorkersRunner",
    "export",
    "open_store",
    "parse_endpoint",
    "read_endpoints",
    "read_lines",
    "run",
    "stored_report",
]
