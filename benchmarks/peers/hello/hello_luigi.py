"""Two tasks with Luigi, local scheduler, a file a task: ``python hello_luigi.py STATE_DIR``."""

import sys

import luigi


class Greet(luigi.Task):
    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{sys.argv[1]}/greet")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("hello")


class Shout(luigi.Task):
    def requires(self) -> luigi.Task:
        return Greet()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{sys.argv[1]}/shout")

    def run(self) -> None:
        with self.input().open() as read, self.output().open("w") as file:
            file.write(read.read().upper())


luigi.build([Shout()], local_scheduler=True, log_level="ERROR")
with Shout().output().open() as file:
    print(file.read())
