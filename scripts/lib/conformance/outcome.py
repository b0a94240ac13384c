"""What a suite found: rows of cases that passed, failed or do not apply, and why."""

import fnmatch
import json


class Row:
    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped = name, [], {}, {}

    def ok(self, case):
        self.passed.append(case)

    def miss(self, case, why):
        self.failed[case] = why

    def skip(self, case, why):
        self.skipped[case] = why

    def judge(self, case, fine, why):
        if fine:
            self.ok(case)
        else:
            self.miss(case, why)


class Outcome:
    def __init__(self, suite, version):
        self.suite, self.version, self.rows = suite, version, []

    def row(self, name):
        self.rows.append(Row(name))
        return self.rows[-1]

    def unknown(self, known):
        """The misses that no reason is written for. `known` has patterns `row/case`."""
        misses = [(row.name, case, why) for row in self.rows for case, why in row.failed.items()]
        return [miss for miss in misses if not any(fnmatch.fnmatchcase(f"{miss[0]}/{miss[1]}", one) for one in known)]

    def write(self, folder):
        told = {"suite": self.suite, "version": self.version,
                "rows": [{"what": row.name, "passed": len(row.passed), "failed": row.failed, "skipped": row.skipped}
                         for row in self.rows]}
        (folder / f"{self.suite}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def table(self):
        for row in self.rows:
            yield (self.suite, self.version, row.name, len(row.passed), len(row.failed), len(row.skipped))
