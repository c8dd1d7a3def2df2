"""Two futures with dask's distributed on a cluster of threads: ``python hello_dask.py STATE_DIR``."""

from distributed import Client, LocalCluster


def greet() -> str:
    return "hello"


def shout(text: str) -> str:
    return text.upper()


if __name__ == "__main__":
    cluster = LocalCluster(processes=False, n_workers=1, threads_per_worker=4, dashboard_address=None)
    with cluster, Client(cluster) as client:
        print(client.submit(shout, client.submit(greet)).result())
